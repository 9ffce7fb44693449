"""Rank 0's contract.Report, kept up to date in a file that the launcher serves."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trainyard_operator.contract import Report, now_text
from trainyard_operator.curve import Point, extended
from trainyard_trainer.checkpoint import Checkpointer
from trainyard_trainer.goodput import Goodput, Stopwatch
from trainyard_trainer.metrics import decimal
from trainyard_trainer.recipe import Position

MOST_OFTEN_SECONDS = 0.5


@dataclass
class Pace:
    """Samples and steps a second, over a window of up to a second."""

    samples_per_second: float = 0.0
    steps_per_second: float = 0.0
    _begun: float = 0.0
    _samples: int = 0
    _steps: int = 0

    def restart(self, now: float, samples: int, steps: int) -> None:
        """Do not count the time before now, such as that of an evaluation."""
        self._begun, self._samples, self._steps = now, samples, steps

    def update(self, now: float, samples: int, steps: int) -> None:
        """samples, steps: of the run so far."""
        seconds = now - self._begun
        if self._begun == 0.0:
            self.restart(now, samples, steps)
        elif seconds >= 0.2 or (self.steps_per_second == 0.0 and steps > self._steps):
            self.samples_per_second = (samples - self._samples) / max(seconds, 1e-6)
            self.steps_per_second = (steps - self._steps) / max(seconds, 1e-6)
            if seconds >= 1.0:
                self.restart(now, samples, steps)


class ProgressReport:
    """Writes the report; on other ranks than the first, nothing."""

    def __init__(self, path: Path | None, attempt: int, checkpointer: Checkpointer) -> None:
        """path: None on ranks that do not report."""
        self._path, self._attempt, self._checkpointer = path, attempt, checkpointer
        self.pace = Pace()
        self.metrics: dict[str, float] = {}
        self.curve: list[Point] = []
        """Of the metric that chooses the best checkpoint, as this attempt saw it."""
        self.resumed_step: int | None = None
        self.config_changes: list[str] = []
        """Against the checkpoint that this attempt went on from."""
        self.samples: dict[str, int] = {}
        """Of each split, by its name."""
        self.clock = Stopwatch()
        """The engine's."""
        self.goodput: Callable[[], Goodput | None] = lambda: None
        """Rank 0's record knows."""
        self.warning: str | None = None
        self.epochs = 0
        """Of the whole run."""
        self.steps = 0
        """Of the whole run, as far as can be foreseen."""
        self.next_write = 0.0
        """Monotonic time before which the hot loop need not call `write`."""

    @property
    def blocked_seconds(self) -> float:
        """How long training stood still to save."""
        return self._checkpointer.timing.blocked_seconds

    def note(self, metrics: Mapping[str, float]) -> None:
        """Remember the newest values."""
        self.metrics |= metrics

    def judged(self, step: int, value: float) -> None:
        """Remember what an evaluation gave of the metric that chooses the best checkpoint."""
        self.curve = extended(self.curve, step, value)

    def write(self, position: Position) -> None:
        """Replace the file."""
        self.next_write = time.monotonic() + MOST_OFTEN_SECONDS
        if self._path is None:
            self.next_write = float("inf")
            return
        text = self.build(position).to_json()
        temporary = self._path.with_suffix(".tmp")
        # A full scratch disk costs the report, not the run.
        with contextlib.suppress(OSError):
            temporary.write_text(text)
            temporary.replace(self._path)

    def build(self, position: Position) -> Report:
        """The report as it stands."""
        saved, best = self._checkpointer.last_saved, self._checkpointer.best
        goodput = self.goodput()
        of_storage = self._checkpointer.storage_warning
        return Report(
            attempt=self._attempt,
            time=now_text(),
            progress=self._progress(position),
            latest=saved.to_report() if saved else None,
            best=best.to_report() if best else None,
            kept=self._checkpointer.kept,
            resumed_step=self.resumed_step,
            warning=self._checkpointer.warning or of_storage or self.warning,
            storage_warning=of_storage,
            goodput=goodput.to_report() if goodput else None,
        )

    def _percent(self, step: int) -> int | None:
        """None before the plan is known."""
        return 100 * min(step, self.steps) // self.steps if self.steps else None

    def _progress(self, position: Position) -> dict[str, Any]:
        progress: dict[str, Any] = {
            "stage": position.stage.name if position.stage else "",
            "epoch": position.run_epoch,
            "epochs": self.epochs,
            "step": position.step,
            "steps": self.steps or None,
            "percent": self._percent(position.step),
            "metrics": {name: decimal(value) for name, value in self.metrics.items()},
        }
        if self.curve:
            progress["curve"] = [list(point) for point in self.curve]
        if self.pace.steps_per_second > 0:
            left = max(0, self.steps - position.step) / self.pace.steps_per_second
            end = datetime.now(UTC) + timedelta(seconds=min(left, 10 * 365 * 86400))
            progress["samplesPerSecond"] = round(self.pace.samples_per_second, 1)
            progress["estimatedCompletionTime"] = now_text(end)
        return progress
