"""What rank 0 leaves behind about the run: a record of its attempt, and at the end result.json."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from trainyard_operator.contract import Env, now_text
from trainyard_operator.layout import ATTEMPTS_PREFIX, attempt_file
from trainyard_trainer import provenance
from trainyard_trainer.config import config_hash
from trainyard_trainer.context import RunContext
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.finale import PREFIXES, Outcome
from trainyard_trainer.goodput import (
    AttemptRecord,
    Goodput,
    measure,
    read_attempts,
    time_text,
)
from trainyard_trainer.outbox import Piece
from trainyard_trainer.progress import ProgressReport
from trainyard_trainer.recipe import Recipe
from trainyard_trainer.storage import Storage
from trainyard_trainer.synthetic import read_mark

LOOK_UP_SECONDS = 30.0
"""How long result.json waits for git and for the data set to be counted, if they take so long."""


class RunRecord:
    """Of one attempt, as it goes on; `before` is what the ones before it left."""

    def __init__(
        self,
        storage: Storage,
        run: RunContext,
        recipe: Recipe[Any],
        progress: ProgressReport,
        hosts: Sequence[str],
    ) -> None:
        self._storage, self._run, self._recipe = storage, run, recipe
        self._progress = progress
        self._before: list[AttemptRecord] | None = [] if run.attempt == 1 else None
        self._mine = AttemptRecord(
            attempt=run.attempt,
            started=time.time(),
            seen=time.time(),
            world_size=run.world_size,
            hosts=list(hosts),
            config_hash=config_hash(recipe.config),
        )
        self._found: dict[str, Any] = {}
        self._look_up = threading.Thread(target=self._find_out, name="provenance", daemon=True)

    def begin(self) -> None:
        """Look up what takes time, beside training; on rank 0 alone."""
        self._look_up.start()

    def end(self, how: str, message: str | None = None) -> None:
        """how: done, stopped or failed."""
        self._mine.ended, self._mine.message = how, message

    def piece(self) -> Piece:
        """The attempt's record as it stands. Raises TrainyardError."""
        if self._before is None:
            self._before = read_attempts(self._storage, self._run.attempt)
        data = json.dumps(self._now().to_dict(), indent=2).encode()
        return Piece(key=attempt_file(self._run.attempt), data=data)

    def goodput(self) -> Goodput | None:
        """None before the earlier attempts are known."""
        if self._before is None:
            return None
        productive = self._progress.clock.seconds
        return measure([*self._before, self._now()], productive, time.time())

    def result(self, outcome: Outcome) -> bytes:
        """result.json. Raises TrainyardError."""
        self._before = read_attempts(self._storage, self._run.attempt)
        self._look_up.join(LOOK_UP_SECONDS)
        run, config = self._run, self._recipe.config
        goodput, report = self.goodput(), self._progress.build(self._recipe.position)
        result = {
            "job": run.job,
            "namespace": run.namespace,
            "uid": run.uid,
            "recipe": run.request.recipe,
            "started_at": time_text([*self._before, self._mine][0].started),
            "finished_at": now_text(),
            "training_seconds": round(outcome.seconds, 3),
            "goodput": goodput.to_result() if goodput else None,
            "step": outcome.step,
            "best_step": outcome.best_step,
            "metrics": dict(sorted(outcome.metrics.items())),
            "notes": dict(self._recipe.notes()),
            "splits": self._splits(outcome),
            "checkpoints": {"latest": report.latest, "best": report.best, "kept": report.kept},
            "world_size": run.world_size,
            "attempts": self._attempts(),
            "seed": config.training.seed,
            "config": config.model_dump(mode="json"),
            "config_hash": config_hash(config),
            "overrides": list(run.request.overrides),
            "image": os.environ.get(Env.IMAGE),
            **self._found,
        }
        return json.dumps(result, indent=2).encode()

    def _now(self) -> AttemptRecord:
        mine, progress = self._mine, self._progress
        mine.seen, mine.step = time.time(), self._recipe.position.step
        mine.from_step = progress.resumed_step or 0
        mine.config_changes = progress.config_changes
        mine.training_began = progress.clock.first_started
        mine.training_seconds = round(progress.clock.seconds_here, 3)
        mine.checkpoint_seconds = round(progress.blocked_seconds, 3)
        return mine

    def _splits(self, outcome: Outcome) -> dict[str, Any]:
        """How many samples each has, and its final metrics without the split's prefix."""
        return {
            split: {
                "samples": self._progress.samples.get(split, 0),
                "metrics": {
                    name.removeprefix(f"{short}_"): value
                    for name, value in sorted(outcome.metrics.items())
                    if name.startswith(f"{short}_")
                },
            }
            for split, short in PREFIXES.items()
        }

    def _attempts(self) -> list[dict[str, Any]]:
        """All of them, with what the launchers of their nodes saw of their ends."""
        ends: dict[int, list[Any]] = {}
        for entry in self._storage.list(f"{ATTEMPTS_PREFIX}/"):
            if "-node-" in entry.key:
                with contextlib.suppress(ValueError, TrainyardError):
                    end = json.loads(self._storage.read(entry.key))
                    ends.setdefault(end.pop("attempt"), []).append(end)
        known = {
            record.attempt: record.to_dict() for record in [*(self._before or []), self._now()]
        }
        numbers = range(1, self._run.attempt + 1)
        nothing = {"message": "no rank came so far as to leave a record"}
        return [
            {**known.get(number, {"attempt": number, **nothing}), "nodes": ends.get(number, [])}
            for number in numbers
        ]

    def _find_out(self) -> None:
        self._found["versions"] = provenance.versions()
        recipe = type(self._recipe).__module__
        self._found["revisions"] = {
            "trainyard": provenance.revision_of(provenance.__name__),
            "recipe": provenance.revision_of(recipe),
        }
        folder = self._recipe.site.data_path
        found = provenance.fingerprint(folder) if folder else {}
        if folder and (mark := read_mark(folder)):
            found["synthetic"] = mark
        uri = self._run.request.dataset_uri
        self._found["data"] = {"uri": uri, "path": str(folder) if folder else None, **found}
