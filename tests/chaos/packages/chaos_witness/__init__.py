"""What ranks under attack tell the driver that attacks them, and where they wait to be hit.

A rank appends a line for each event to $CHAOS_DIRECTORY/events: process id, rank, what, detail. It
needs nothing of the engine but the hooks that every recipe has, and of files:// storage nothing
but the operations that Python itself reports (sys.addaudithook).
"""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from trainyard_trainer.context import Rank
from trainyard_trainer.recipe import Gathered, Recipe, Site, Stage

HELD_SECONDS = 30.0
_TEMPORARY = re.compile(r"/\.(?P<name>[^/]+)\.[0-9a-f]{32}\.partial$")


class Witness(Recipe[Any]):
    """Mixed into a recipe: it says when it is born, resumes, steps and is judged for good."""

    def __init__(self, config: Any, site: Site) -> None:
        super().__init__(config, site)
        self._log = os.open(
            Path(os.environ["CHAOS_DIRECTORY"]) / "events",
            os.O_WRONLY | os.O_APPEND | os.O_CREAT,
        )
        Tripwire(self).watch()
        self.say("born", attempt_under_way())

    def say(self, what: str, detail: object = "-") -> None:
        """One line; appended in one piece, whoever else writes."""
        os.write(self._log, f"{os.getpid()} {self.site.rank} {what} {detail}\n".encode())

    def build_optimizers(
        self, stage: Stage, modules: Mapping[str, nn.Module]
    ) -> dict[str, Optimizer]:
        """The last of them marks the step."""
        optimizers = super().build_optimizers(stage, modules)
        *_, last = optimizers.values()
        last.register_step_post_hook(lambda *_: self.say("step", self.position.step + 1))
        return optimizers

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Only a resume brings one."""
        super().load_state_dict(state)
        self.say("load")

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """`test` is for the final evaluation only."""
        self.say("judge", split)
        return super().compute_metrics(split, gathered)


def attempt_under_way() -> int:
    """The number of the attempt that this rank belongs to; a recipe is not told."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        rank = getattr(frame.f_locals.get("self"), "_rank", None)
        if isinstance(rank, Rank):
            return rank.run.attempt
    return 0


class Tripwire:
    """Holds the thread that touches a file which the driver waits for, in storage or in memory.

    The driver writes a pattern of `<operation> <key>` to `armed`. The first to match renames that
    to `held`, says so, and stands still until the driver deletes it, or kills.
    """

    def __init__(self, witness: Witness) -> None:
        place = Path(os.environ["CHAOS_DIRECTORY"])
        self._witness = witness
        # Of the storage a run's keys have three names before them; of the node's memory only one.
        self._places = {f"{os.environ['CHAOS_STORE']}/": ("", 3)}
        if memory := os.environ.get("TRAINYARD_NODE_MEMORY"):
            self._places[f"{memory}/"] = ("memory-", 1)
        self._armed, self._held = place / "armed", place / "held"
        self._published = threading.local()

    def watch(self) -> None:
        """From now on; an audit hook cannot be taken out again."""
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in {"open", "os.rename", "os.link", "os.remove"}:
            return
        before, self._published.key = getattr(self._published, "key", None), None
        if before is not None:
            self._meet("published", before)
        path = str(arguments[1] if event in {"os.rename", "os.link"} else arguments[0])
        if event in {"os.rename", "os.link"}:
            self._meet("publish", path)
            self._published.key = path
        elif event == "open":
            name = _TEMPORARY.sub(r"/\g<name>", path)
            self._meet("write" if name != path else "read", name)

    def _meet(self, operation: str, path: str) -> None:
        for place, (prefix, names) in self._places.items():
            if path.startswith(place):
                key = "/".join(path.removeprefix(place).split("/")[names:])
                self._hold(f"{prefix}{operation} {key}")

    def _hold(self, touched: str) -> None:
        """Stand still if this is what the driver waits for."""
        with contextlib.suppress(FileNotFoundError):
            if not re.search(self._armed.read_text(), touched):
                return
            self._armed.rename(self._held)
            self._witness.say("held", touched.replace(" ", ":"))
            until = time.monotonic() + HELD_SECONDS
            while self._held.exists() and time.monotonic() < until:
                time.sleep(0.002)
