"""Output of ranks: cut into lines, echoed, remembered, and kept in storage as gzip'd segments.

A line in storage begins with its time as a kubelet writes it (RFC 3339, nanoseconds) and a space.
A segment is written once, to `<prefix>/<sequence>.log.gz`; a retry sends the same bytes.
"""

import gzip
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

LINE_BYTES = 16 * 1024
"""A longer line is split, as container runtimes do."""
SEGMENT_BYTES = 4 * 2**20
"""A segment of this many bytes, before compression, is closed ahead of its time."""
TAIL_LINES = 20


@dataclass(frozen=True)
class Segment:
    """A closed piece of a log, ready to be written."""

    key: str
    data: bytes


def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC with nine decimals, so that text order is time order."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class LineSplitter:
    """Bytes in pieces of any size to whole lines without their ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LINE_BYTES:
            lines.append(self._rest[:LINE_BYTES])
            self._rest = self._rest[LINE_BYTES:]
        return [
            line[start : start + LINE_BYTES].removesuffix(b"\r")
            for line in lines
            for start in range(0, max(1, len(line)), LINE_BYTES)
        ]

    def finish(self) -> list[bytes]:
        """The last line, where nothing ended it."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class Console:
    """The container's own output, shared by all streams; once it is gone, lines are only kept."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Write all of `data`, waiting where the reader is slow."""
        view = memoryview(data)
        try:
            while view and self._descriptor >= 0:
                view = view[os.write(self._descriptor, view) :]
        except BlockingIOError:
            os.set_blocking(self._descriptor, True)
            self.write(bytes(view))
        except OSError:
            self._descriptor = -1


class LogStream:
    """The log of one process: one rank's, or the launcher's own."""

    def __init__(
        self,
        console: Console,
        label: str,
        key_prefix: str | None,
        clock: Callable[[], int] = time.time_ns,
        *,
        tail_lines: int = TAIL_LINES,
        first_segment: int = 0,
    ) -> None:
        """label: put before each echoed line. key_prefix: None keeps nothing for storage."""
        self._console, self._label, self._key_prefix = console, label.encode(), key_prefix
        self._clock = clock
        self._splitter = LineSplitter()
        self._segment = bytearray()
        self._sequence = first_segment
        self._tail: deque[bytes] = deque(maxlen=tail_lines)

    @property
    def tail(self) -> list[str]:
        """The last lines, as text."""
        return [line.decode(errors="replace") for line in self._tail]

    @property
    def is_full(self) -> bool:
        """Whether the segment should be closed before its time."""
        return len(self._segment) >= SEGMENT_BYTES

    def feed(self, data: bytes) -> None:
        """Take what the process wrote."""
        self._take(self._splitter.feed(data))

    def finish(self) -> None:
        """Take the last line, where nothing ended it."""
        self._take(self._splitter.finish())

    def say(self, line: str) -> None:
        """Add a line of our own."""
        self._take([line.encode()])

    def cut(self) -> Segment | None:
        """Close the current segment; None where it is empty."""
        if not self._segment:
            return None
        key = f"{self._key_prefix}/{self._sequence:06d}.log.gz"
        segment = Segment(key, gzip.compress(self._segment, 6, mtime=0))
        self._segment.clear()
        self._sequence += 1
        return segment

    def _take(self, lines: list[bytes]) -> None:
        if not lines:
            return
        self._tail.extend(lines)
        self._console.write(b"".join(b"%b%b\n" % (self._label, line) for line in lines))
        if self._key_prefix is not None:
            time_text = timestamp(self._clock()).encode()
            self._segment += b"".join(b"%b %b\n" % (time_text, line) for line in lines)
