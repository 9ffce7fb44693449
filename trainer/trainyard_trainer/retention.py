"""Which checkpoints to keep, and what is no checkpoint. `plan_*` is pure, `apply_*` deletes."""

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainyard_operator.layout import CHECKPOINTS_PREFIX, MANIFEST_FILE, QUARANTINE_PREFIX
from trainyard_trainer.manifest import Best, Manifest, select_best
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import ObjectExists

CLAIMS_PREFIX = "claims"
"""Of the run of a program of one's own: an object for each attempt that began."""


@dataclass(frozen=True)
class Retention:
    """How many checkpoints a run keeps."""

    last: int = 3
    """The newest ones, at least 1."""
    best: Best | None = None
    """The best by this metric is kept beside them; None: no best is kept."""
    every_steps: int | None = None
    """Of each so many steps, the first checkpoint is kept for good; None: of none."""

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(
                f"spec.checkpoint.keepLast: {self.last} keeps nothing; write 1 or more"
            )


def plan_retention(
    manifests: Sequence[Manifest], keep: Retention, *, attempt: int, resumed: str | None
) -> list[Manifest]:
    """The checkpoints to delete, oldest first.

    manifests: newest first. resumed: prefix of the checkpoint that this attempt went on from;
    always kept. A newer attempt's presence means that this process was replaced: delete nothing.
    """
    if any(manifest.attempt > attempt for manifest in manifests):
        return []
    kept = {manifest.prefix for manifest in manifests[: keep.last]} | {resumed}
    kept |= {manifest.prefix for manifest in _milestones(manifests, keep.every_steps)}
    if keep.best and (best := select_best(manifests, keep.best.metric, keep.best.mode)):
        kept.add(best.prefix)
    return [manifest for manifest in reversed(manifests) if manifest.prefix not in kept]


def _milestones(manifests: Sequence[Manifest], every_steps: int | None) -> list[Manifest]:
    """The first at or after each multiple, step 0 left out: saves need not fall on multiples."""
    if every_steps is None:
        return []
    firsts: dict[int, Manifest] = {}
    for manifest in reversed(manifests):
        firsts.setdefault(manifest.step // every_steps, manifest)
    return [manifest for window, manifest in firsts.items() if window > 0]


def apply_retention(storage: Storage, doomed: Sequence[Manifest]) -> None:
    """Delete manifests before their parts: after a crash no manifest names absent parts."""
    for manifest in doomed:
        storage.delete([manifest.key])
        storage.delete([part.key for part in manifest.parts])


def plan_sweep(keys: Iterable[str], *, attempt: int) -> dict[str, list[str]]:
    """Parts without a manifest, by directory: of attempts that are over, or of failed saves.

    keys: all below CHECKPOINTS_PREFIX and QUARANTINE_PREFIX, while this attempt writes none. What
    was set aside is not swept: its parts stay for whoever looks into it.
    """
    found: dict[str, list[str]] = {}
    whole = set()
    for key in keys:
        if not (match := _DIRECTORY.match(key)) or int(match["attempt"]) > attempt:
            continue
        if match["name"] == MANIFEST_FILE:
            whole.add(match["directory"])
        elif match["kind"] == CHECKPOINTS_PREFIX:
            found.setdefault(match["directory"], []).append(key)
    return {
        f"{CHECKPOINTS_PREFIX}/{directory}": parts
        for directory, parts in found.items()
        if directory not in whole
    }


def claim_attempt(storage: Storage) -> int:
    """A number that no attempt at this run has used, not even for parts that came to nothing, and
    that no process that begins at the same time gets too.

    A server without conditional writes cannot keep two such processes apart.
    """
    prefixes = (f"{CHECKPOINTS_PREFIX}/", f"{QUARANTINE_PREFIX}/")
    keys = (entry.key for prefix in prefixes for entry in storage.list(prefix))
    used = [int(match["attempt"]) for key in keys if (match := _DIRECTORY.match(key))]
    attempt, token = max(used, default=0) + 1, secrets.token_bytes(16)
    while True:
        try:
            storage.write(f"{CLAIMS_PREFIX}/a{attempt}", token, if_absent=True)
        except ObjectExists:
            attempt += 1
        else:
            return attempt


def apply_sweep(storage: Storage, orphans: dict[str, list[str]]) -> None:
    """Delete them, unless a manifest is there after all: a listing may lag behind."""
    for directory, parts in orphans.items():
        if not storage.exists(f"{directory}/{MANIFEST_FILE}"):
            storage.delete(parts)


_DIRECTORY = re.compile(
    rf"(?P<kind>{CHECKPOINTS_PREFIX}|{QUARANTINE_PREFIX})/"
    r"(?P<directory>step-\d+-a(?P<attempt>\d+))/(?P<name>[^/]+)"
)
