"""When a run is hit, and where: drawn from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

ANYWHERE = ("rank", "launcher", "both", "gang")
"""At a step, whatever it is at: one rank; one launcher; a rank and a launcher; all of them."""
AT_STORAGE = ("upload", "manifest-before", "manifest-after")
"""While a part is written; before the manifest is there; when it is, and nobody was told."""
AFTER_A_KILL = ("order", "resume")
"""As soon as one rank of the next attempt is born, when the others' launchers may not have their
order yet; while a rank reads what it resumes from, in storage or in the node's memory."""
KINDS = (*ANYWHERE, *AT_STORAGE, "memory", *AFTER_A_KILL, "final")
"""memory: while a part, or the manifest, is written to the node's memory."""

TOUCHES = {
    "upload": (r"^write checkpoints/step-\d+-a\d+/\S+\.pt$",),
    "manifest-before": (r"^publish checkpoints/step-\d+-a\d+/manifest\.json$",),
    "manifest-after": (r"^published checkpoints/step-\d+-a\d+/manifest\.json$",),
    "memory": (
        r"^memory-write checkpoints/step-\d+-a\d+/\S+\.pt$",
        r"^memory-publish checkpoints/step-\d+-a\d+/manifest\.json$",
    ),
    "resume": (r"^(memory-)?read checkpoints/step-\d+-a\d+/\S+\.pt$",),
    "final": (
        r"^publish reports/|^publish metrics\.csv$",
        r"^publish result\.json$",
        r"^published result\.json$",
    ),
}
"""What the storage is doing then; one of them is drawn."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One of the K."""

    kind: str
    at_step: int
    """Not before this one."""
    touch: str | None = None
    """Pattern of what the storage is asked to do at that moment; None: whatever."""
    victims: str = "rank"
    """One of ANYWHERE."""
    delay: float = 0.0
    """Seconds after the step began, or the storage was touched."""
    choice: float = 0.0
    """From 0 to 1: which rank, which launcher."""


def draw(seed: int, steps: int, count: int = 12) -> list[Kill]:
    """Every kind once, as far as `count` goes, then any; the first of them not before a fifth of
    the steps, the end comes last."""
    dice = random.Random(seed)
    kinds = [*KINDS[:-1], *(dice.choice(ANYWHERE) for _ in range(count))][: count - 1]
    dice.shuffle(kinds)
    while kinds[0] in AFTER_A_KILL:
        kinds.append(kinds.pop(0))
    moments = sorted(dice.sample(range(steps // 5, steps * 4 // 5), len(kinds)))
    kills = [_draw_one(dice, kind, step) for kind, step in zip(kinds, moments, strict=True)]
    return [*kills, _draw_one(dice, "final", steps)]


def pick(seed: int, steps: int, kinds: Sequence[str]) -> list[Kill]:
    """The named kinds in their order, at steps that lie apart."""
    dice = random.Random(seed)
    apart = steps // (len(kinds) + 1)
    return [_draw_one(dice, kind, apart * (n + 1)) for n, kind in enumerate(kinds)]


def _draw_one(dice: random.Random, kind: str, step: int) -> Kill:
    return Kill(
        kind=kind,
        at_step=step,
        touch=dice.choice(TOUCHES[kind]) if kind in TOUCHES else None,
        victims=kind if kind in ANYWHERE else dice.choice(ANYWHERE),
        delay=dice.uniform(0, 0.02),
        choice=dice.random(),
    )
