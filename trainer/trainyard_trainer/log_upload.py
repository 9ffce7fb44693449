"""Brings closed log segments to storage, once each, and never in the way of training."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from trainyard_operator.contract import node_label, rank_label
from trainyard_operator.layout import log_prefix, node_log_prefix
from trainyard_trainer.context import RunContext
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.logs import Console, LogStream, Segment
from trainyard_trainer.storage import Storage

WAITING_BYTES = 64 * 2**20
"""Compressed segments that wait for storage; beyond it the oldest are given up."""
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


class SegmentUploader:
    """Writes segments from a thread of its own, so that absent storage delays nobody."""

    def __init__(
        self, storage: Storage, wait: Callable[[threading.Event, float], bool] | None = None
    ) -> None:
        """wait: how to pass time between tries; it returns whether the uploader is to give up."""
        self._storage = storage
        self._wait = wait or threading.Event.wait
        self._waiting: deque[Segment] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._closing = False
        self._give_up = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-uploader", daemon=True)
        self._thread.start()

    def put(self, segment: Segment) -> None:
        """Queue a segment; returns at once."""
        with self._changed:
            self._waiting.append(segment)
            self._waiting_bytes += len(segment.data)
            while self._waiting_bytes > WAITING_BYTES and len(self._waiting) > 1:
                self._waiting_bytes -= len(self._waiting.popleft().data)
                self._lost += 1
            self._changed.notify()

    def take_lost(self) -> int:
        """How many segments were given up since the last call, for want of memory."""
        with self._changed:
            lost, self._lost = self._lost, 0
            return lost

    def close(self, timeout_seconds: float) -> int:
        """Write what waits, for at most so long; returns how many segments were not written."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        self._give_up.set()
        return len(self._waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                segment = self._waiting[0]
            if not self._write(segment):
                return
            with self._changed, contextlib.suppress(IndexError):
                if self._waiting[0] is segment:
                    self._waiting.popleft()
                    self._waiting_bytes -= len(segment.data)

    def _write(self, segment: Segment) -> bool:
        """Try until it is stored; False where told to give up."""
        tries = 0
        while not self._give_up.is_set():
            try:
                self._storage.write(segment.key, segment.data)
            except (TrainyardError, OSError):
                delay = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
                tries += 1
                if self._wait(self._give_up, delay):
                    return False
            else:
                return True
        return False


class NodeLogs:
    """All streams of one node: the launcher's own, and one for each rank."""

    def __init__(self, run: RunContext, console: Console, first_segment: int = 0) -> None:
        self._run, self._console, self._first_segment = run, console, first_segment
        self._upload = bool(run.request.logs.get("upload", True))
        self._uploader: SegmentUploader | None = None
        self._ranks: dict[int, LogStream] = {}
        self.node = self._open_node(run.attempt)
        """The launcher's own stream."""
        self.flush_at = time.monotonic() + run.flush_seconds
        """When segments are next due, on the monotonic clock."""

    def attach(self, storage: Storage) -> None:
        """From now on closed segments go there."""
        self._uploader = SegmentUploader(storage)

    def keep(self, key: str, data: bytes) -> None:
        """Store a record of the launcher's own, behind the segments that wait; returns at once."""
        if self._uploader is not None:
            self._uploader.put(Segment(key, data))

    def begin_attempt(self, attempt: int) -> None:
        """Close what the attempt before wrote, and let the launcher's lines go to the new one."""
        self._flush()
        self._ranks.clear()
        self.node = self._open_node(attempt)

    def open_rank(self, rank: int, attempt: int) -> LogStream:
        """A fresh stream for a rank; rank 0's lines bear no label on the console."""
        label = rank_label(rank) if rank else ""
        self._ranks[rank] = self._open(label, log_prefix(attempt, rank))
        return self._ranks[rank]

    def add_rank(self, rank: int, stream: LogStream) -> None:
        """A rank's stream that somebody else has made."""
        self._ranks[rank] = stream

    def say(self, line: str) -> None:
        """A line of the launcher's own."""
        self.node.say(line)

    def tail(self, rank: int | None) -> list[str]:
        """The last lines of a rank, or of the launcher."""
        stream = self.node if rank is None else self._ranks.get(rank)
        return stream.tail if stream else []

    def flush_due(self, now: float) -> None:
        """Close the segments that are old or large enough."""
        is_due = now >= self.flush_at
        if is_due:
            self.flush_at = now + self._run.flush_seconds
        self._flush(only_full=not is_due)

    def _flush(self, *, only_full: bool = False) -> None:
        if self._uploader is None:
            return
        if lost := self._uploader.take_lost():
            self.say(f"{lost} log segments were dropped: storage has been away for too long.")
        for stream in (self.node, *self._ranks.values()):
            if (stream.is_full or not only_full) and (segment := stream.cut()):
                self._uploader.put(segment)

    def close(self, timeout_seconds: float) -> None:
        """Write everything that is left, for at most so long."""
        if self._uploader is not None:
            self._flush()
            if left := self._uploader.close(timeout_seconds):
                self.say(f"{left} log segments were not stored: storage cannot be reached.")

    def _open_node(self, attempt: int) -> LogStream:
        index = self._run.node_index
        return self._open(node_label(index), node_log_prefix(attempt, index))

    def _open(self, label: str, key_prefix: str) -> LogStream:
        prefix = key_prefix if self._upload else None
        return LogStream(self._console, label, prefix, first_segment=self._first_segment)
