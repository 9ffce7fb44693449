"""Curves and reports: TensorBoard segments, the metrics table and files of the recipe, in storage.

The training thread only puts values in a queue. A thread of its own turns them every
`flush_seconds` into objects, whose names it uses once: to append to one means to send it whole.
"""

import csv
import logging
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from trainyard_operator.layout import METRICS_FILE, event_file, picture_file
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.events import EventSegment, Histogram, encode_png
from trainyard_trainer.fence import Fence, Superseded
from trainyard_trainer.metrics_table import MetricsTable, Rows, read_metrics
from trainyard_trainer.outbox import Outbox, Piece
from trainyard_trainer.pictures import Picture
from trainyard_trainer.storage import Storage

SOONEST_SECONDS = 5.0
"""Between two flushes, however often one is asked for."""
CLOSE_SECONDS = 20.0
"""How long the last flush may take: a node that must go has no more to give."""
MOST_UNSTORED = 10_000
"""Rows that a checkpoint takes along for a storage that does not take them."""
log = logging.getLogger("trainyard")


class _Row(NamedTuple):
    at: float
    step: int
    epoch: int
    stage: str
    values: Mapping[str, float]
    attempt: int | None = None
    """Of a row that came with the checkpoint; None: this one."""


class _Shown(NamedTuple):
    """What is for TensorBoard alone."""

    at: float
    step: int
    kind: Literal["scalars", "image", "histogram", "text", "picture"]
    tag: str
    content: Any


class Tracker:
    """Rank 0's record of the run. A failed upload is tried again, and never ends the run."""

    def __init__(
        self,
        storage: Storage,
        attempt: int,
        *,
        tensorboard: bool = True,
        flush_seconds: float = 30,
    ) -> None:
        self._storage, self._attempt, self._tensorboard = storage, attempt, tensorboard
        self._queue: deque[_Row | _Shown] = deque()
        self._unstored: deque[_Row] = deque(maxlen=MOST_UNSTORED)
        self._outbox, self._fence = Outbox(storage), Fence(storage, attempt)
        self._table = MetricsTable(attempt)
        self._carried: list[_Row] = []
        self._resumed_step: int | None = None
        self._purge_step: int | None = None
        self._has_begun = False
        self._segments = 0
        self._said: set[str] = set()
        self._flush_seconds = flush_seconds
        self._ended, self._wanted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._flush_often, name="tracking", daemon=True)
        self.is_superseded = False
        """Whether a later attempt was seen; nothing is stored any more."""
        self.step = 0
        """Where pictures and the like are shown; `add` moves it."""
        self.gallery: dict[str, bytes] = {}
        """The newest picture of each name as PNG, once it is drawn."""
        self.before_flush: Callable[[], Piece | None] = lambda: None
        """Gives one more object for each flush."""

    def begin(self, resumed_step: int | None, unstored: Iterable[Any] = ()) -> None:
        """Join with what earlier attempts wrote; later steps than the resumed one are repeated.

        unstored: of the attempt that saved the checkpoint.
        """
        self._resumed_step = resumed_step
        self.step = resumed_step or 0
        self._carried = [_Row(*row) for row in unstored]
        self._unstored.extend(self._carried)
        self._thread.start()

    def unstored(self) -> list[list[Any]]:
        """Rows that storage may not have yet, for the checkpoint: their steps are not repeated."""
        return [
            [*row[:4], dict(row.values), row.attempt or self._attempt]
            for row in self._unstored.copy()
        ]

    def add(self, step: int, epoch: int, stage: str, values: Mapping[str, float]) -> None:
        """A row, merged with others of the same step, and a point on each curve.

        `values` is not copied: leave it as it is.
        """
        self.step = step
        row = _Row(time.time(), step, epoch, stage, values)
        self._queue.append(row)
        self._unstored.append(row)

    def showing(self, step: int) -> "Tracker":
        """Where pictures and the like of a step go."""
        self.step = step
        return self

    def scalars(self, values: Mapping[str, float]) -> None:
        """recipe.Sink: curves that are no columns."""
        self._show("scalars", "", dict(values))

    def image(self, tag: str, image: Any) -> None:
        """recipe.Sink."""
        self._show("image", tag, np.array(image))

    def histogram(self, tag: str, histogram: Histogram) -> None:
        """A distribution on TensorBoard's pages."""
        self._show("histogram", tag, histogram)

    def note(self, tag: str, markdown: str) -> None:
        """A text on TensorBoard's page alone."""
        self._show("text", tag, markdown)

    def picture(self, name: str, picture: Picture) -> None:
        """recipe.Sink."""
        self._show("picture", name, picture)

    def show_pictures(self, folder: str, pictures: Mapping[str, Picture]) -> None:
        """All of an evaluation's. folder: such as `val`."""
        for name, picture in pictures.items():
            self.picture(f"{folder}/{name}", picture)

    def text(self, name: str, text: str) -> None:
        """recipe.Sink."""
        self.file(name, text.encode())
        self.note(name, f"```\n{text}\n```")

    def file(self, name: str, data: bytes) -> None:
        """recipe.Sink."""
        self._outbox.put(Piece(key=name, data=data))

    def flush_soon(self) -> None:
        """Have what is new uploaded, such as when a checkpoint is saved; returns at once."""
        self._wanted.set()

    def close(self) -> None:
        """Upload the rest."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive() or len(self._outbox):
            log.warning("The last curves and reports are not stored: storage does not answer.")

    def _show(self, kind: Any, tag: str, content: Any) -> None:
        self._queue.append(_Shown(time.time(), self.step, kind, tag, content))

    def _flush_often(self) -> None:
        self._flush(is_last=False)
        is_last = False
        while not is_last:
            began = time.monotonic()
            self._wanted.wait(self._flush_seconds)
            soonest = min(SOONEST_SECONDS, self._flush_seconds)
            self._ended.wait(max(0.0, began + soonest - time.monotonic()))
            self._wanted.clear()
            is_last = self._ended.is_set()
            self._flush(is_last)

    def _flush(self, is_last: bool) -> None:
        newest = self._unstored[-1] if self._unstored else None
        if self.is_superseded:
            return
        try:
            self._fence.check()
            self._take_over()
            self._gather(is_last)
            self._outbox.send()
            while newest is not None and self._unstored:
                if self._unstored.popleft() is newest:
                    break
        except Superseded as error:
            log.warning("%s", error)
            self.is_superseded = True
            self._outbox.clear()
        except TrainyardError as error:
            log.warning("Curves are not stored yet: %s", error)
        except Exception as error:  # The thread must outlive it, or the queue grows for ever.
            self._say_once("Curves are not stored", error)
        if self._outbox.lost:
            log.warning("%d objects of curves and reports were given up.", self._outbox.lost)
            self._outbox.lost = 0

    def _gather(self, is_last: bool) -> None:
        """All that is new, into the outbox; what fails does not hold up the rest."""
        parts: tuple[Callable[[], Piece | None], ...] = (
            self._drain,
            self._table.cut,
            lambda: self._table.take_whole(at_the_end=is_last),
            self.before_flush,
        )
        for part in parts:
            try:
                self._outbox.put(part())
            except TrainyardError:
                raise
            except Exception as error:
                self._say_once("A part of the curves and reports is not stored", error)

    def _say_once(self, what: str, error: Exception) -> None:
        text = f"{what} ({type(error).__name__}: {error})."
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)

    def _draw(self, entry: _Shown) -> _Shown:
        """A picture as an image. Raises ValueError: what draws it is not ours."""
        try:
            pixels = entry.content.render()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"picture '{entry.tag}' cannot be drawn ({reason})") from error
        self.gallery[entry.tag] = data = encode_png(pixels)
        self.file(picture_file(entry.tag), data)
        return entry._replace(kind="image", content=pixels)

    def _take_over(self) -> None:
        """Nothing is written before it is known what earlier attempts wrote."""
        if self._has_begun:
            return
        self._outbox.put(self._first_piece())
        # What came with the checkpoint may have been stored after all.
        lacking = [row for row in self._carried if not self._table.has(row.step, row.values)]
        self._queue.extendleft(reversed(lacking))
        if self._attempt > 1 or self._resumed_step is not None:
            again = (row.step for row in lacking if row.step > self._table.last_step)
            first = 0 if self._resumed_step is None else self._resumed_step + 1
            self._purge_step = min(again, default=first)
        self._has_begun = True

    def _first_piece(self) -> Piece:
        """What earlier attempts wrote; nothing where that is damaged."""
        step, rows = self._resumed_step, Rows()
        try:
            if step is not None and (earlier := read_metrics(self._storage)):
                rows = earlier.up_to(step)
            return self._table.take_over(rows)
        except (ValueError, csv.Error) as error:
            log.warning(
                "%s begins anew, since a piece of an earlier attempt is damaged (%s); its pieces "
                "stay where they are.",
                METRICS_FILE,
                error,
            )
            return self._table.take_over(Rows())

    def _drain(self) -> Piece | None:
        """What is queued goes to the table and into one segment of events."""
        # The first segment of a later attempt begins by forgetting what is repeated.
        purge_step = self._purge_step if self._segments == 0 else None
        segment, is_empty = EventSegment(purge_step), not self._queue
        while self._queue:
            entry = self._queue.popleft()
            try:
                if isinstance(entry, _Row):
                    self._table.add(*entry)
                elif entry.kind == "picture":
                    entry = self._draw(entry)
                if self._tensorboard:
                    _write(entry, segment)
            except (TypeError, ValueError, struct.error) as error:
                log.warning("What was recorded at step %d cannot be shown: %s", entry.step, error)
        if self._tensorboard and not is_empty:
            self._segments += 1
            key = event_file(self._attempt, self._segments - 1)
            return Piece(key=key, data=bytes(segment.data))
        return None


def _write(entry: _Row | _Shown, segment: EventSegment) -> None:
    if isinstance(entry, _Row):
        segment.scalars(entry.values, entry.step, entry.at)
    elif entry.kind == "scalars":
        segment.scalars(entry.content, entry.step, entry.at)
    else:
        show = getattr(segment, entry.kind)
        show(entry.tag, entry.content, entry.step, entry.at)


class NoTracker:
    """What the other ranks record: nothing."""

    is_superseded = False

    def __init__(self) -> None:
        self.step = 0
        self.gallery: dict[str, bytes] = {}
        self.before_flush: Callable[[], Piece | None] = lambda: None

    def showing(self, step: int) -> None:
        """Nowhere."""

    def begin(self, resumed_step: int | None, unstored: Iterable[Any] = ()) -> None:
        """Do nothing."""

    def unstored(self) -> list[list[Any]]:
        """None."""
        return []

    def add(self, step: int, epoch: int, stage: str, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def note(self, tag: str, markdown: str) -> None:
        """Do nothing."""

    def file(self, name: str, data: bytes) -> None:
        """Do nothing."""

    def flush_soon(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
