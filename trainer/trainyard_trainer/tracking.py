"""Curves and reports: TensorBoard segments, metrics.csv and files of the recipe, kept in storage.

Events are written to the scratch directory. Every `flush_seconds` the open segment is closed and
uploaded under a name of its own: objects are never written twice, since appending to one in S3
means to send it whole again.
"""

import contextlib
import csv
import io
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainyard_operator.contract import METRICS_FILE, now_text, tensorboard_prefix
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.events import EventFile
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import ObjectMissing

_FIXED = ("step", "epoch", "stage", "attempt", "time")
log = logging.getLogger("trainyard")


class Tracker:
    """Rank 0's record of the run. A failed upload is tried again, and never ends the run."""

    def __init__(
        self,
        storage: Storage,
        scratch: Path,
        attempt: int,
        *,
        tensorboard: bool = True,
        flush_seconds: float = 30,
    ) -> None:
        self._storage, self._attempt = storage, attempt
        self._table = MetricsTable(attempt)
        self._segments = _Segments(scratch / "tensorboard", attempt) if tensorboard else None
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._flush_often, name="tracking", daemon=True)
        self._step = 0

    def begin(self, resumed_step: int | None) -> None:
        """Join with what earlier attempts wrote; later steps than the resumed one are repeated."""
        if resumed_step is not None:
            with contextlib.suppress(ObjectMissing):
                self._table.load(self._storage.read(METRICS_FILE).decode(), resumed_step)
        if self._segments is not None:
            self._segments.purge_step = None if resumed_step is None else resumed_step + 1
        self._step = resumed_step or 0
        self._thread.start()

    def add(self, step: int, epoch: int, stage: str, values: Mapping[str, float]) -> None:
        """A row, merged with others of the same step, and a point on each curve."""
        with self._lock:
            self._step = step
            self._table.add(step, epoch, stage, values)
            if self._segments is not None:
                self._segments.open().scalars(values, step)

    def scalars(self, values: Mapping[str, float]) -> None:
        """recipe.Sink: curves that are no columns."""
        if self._segments is not None:
            with self._lock:
                self._segments.open().scalars(values, self._step)

    def image(self, tag: str, image: Any) -> None:
        """recipe.Sink."""
        if self._segments is not None:
            with self._lock:
                self._segments.open().image(tag, image, self._step)

    def text(self, name: str, text: str) -> None:
        """recipe.Sink."""
        self.file(name, text.encode())
        if self._segments is not None:
            with self._lock:
                self._segments.open().text(name, f"```\n{text}\n```", self._step)

    def file(self, name: str, data: bytes) -> None:
        """recipe.Sink."""
        self._storage.write(name, data)

    def flush(self) -> None:
        """Upload what is new."""
        with self._lock:
            if self._segments is not None:
                self._segments.close()
            table = self._table.take_changed()
        try:
            if table is not None:
                self._storage.write(METRICS_FILE, table)
            if self._segments is not None:
                self._segments.upload(self._storage)
        except TrainyardError as error:
            self._table.changed = True
            log.warning("Curves are not uploaded yet: %s", error)

    def close(self) -> None:
        """Upload the rest."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def _flush_often(self) -> None:
        while not self._ended.wait(self._flush_seconds):
            self.flush()


class NoTracker:
    """What the other ranks record: nothing."""

    def begin(self, resumed_step: int | None) -> None:
        """Do nothing."""

    def add(self, step: int, epoch: int, stage: str, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _Segments:
    """Event files of one attempt: at most one open, closed ones wait for their upload."""

    def __init__(self, directory: Path, attempt: int) -> None:
        self._directory, self._attempt = directory, attempt
        self._open: EventFile | None = None
        self._closed: list[Path] = []
        self._sequence = 0
        self.purge_step: int | None = None

    def open(self) -> EventFile:
        """The segment to write to."""
        if self._open is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time()):010d}.trainyard.{self._sequence:06d}"
            self._open = EventFile(self._directory / name, self.purge_step)
            self._sequence += 1
            self.purge_step = None
        return self._open

    def close(self) -> None:
        """End the open segment."""
        if self._open is not None:
            self._open.close()
            self._closed.append(self._open.path)
            self._open = None

    def upload(self, storage: Storage) -> None:
        """Oldest first; one that fails stays for the next time."""
        while self._closed:
            path = self._closed[0]
            storage.write(f"{tensorboard_prefix(self._attempt)}/{path.name}", path.read_bytes())
            path.unlink(missing_ok=True)
            self._closed.pop(0)


class MetricsTable:
    """metrics.csv: one row a step, all attempts joined, a repeated step replaced."""

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._rows: dict[int, dict[str, str]] = {}
        self._columns: dict[str, None] = dict.fromkeys(_FIXED)
        self.changed = False

    def load(self, text: str, last_step: int) -> None:
        """Rows of earlier attempts up to `last_step`."""
        for row in csv.DictReader(io.StringIO(text)):
            if int(row["step"]) <= last_step:
                self._rows[int(row["step"])] = {name: value for name, value in row.items() if value}
                self._columns |= dict.fromkeys(row)

    def add(self, step: int, epoch: int, stage: str, values: Mapping[str, float]) -> None:
        """Add columns to a step's row."""
        row = self._rows.setdefault(step, {"step": str(step)})
        fixed = {"epoch": str(epoch), "stage": stage, "attempt": str(self._attempt)}
        row |= fixed | {"time": now_text()}
        row |= {name: f"{value:.8g}" for name, value in values.items()}
        self._columns |= dict.fromkeys(values)
        self.changed = True

    def take_changed(self) -> bytes | None:
        """The whole file where there is something new, else None."""
        if not self.changed:
            return None
        self.changed = False
        out = io.StringIO()
        writer = csv.DictWriter(out, list(self._columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows[step] for step in sorted(self._rows))
        return out.getvalue().encode()
