"""The launcher's signals, as bytes of a descriptor that its loop waits for."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from trainyard_trainer.errors import Stopped

STOPS = frozenset({signal.SIGTERM, signal.SIGINT})


class SignalQueue:
    """SIGTERM, SIGINT and SIGCHLD from `install` on; only the main thread may make one."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._raises = False
        for descriptor in (self._read, self._write):
            os.set_blocking(descriptor, False)

    def install(self) -> None:
        """Take the signals over."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (*STOPS, signal.SIGCHLD):
            signal.signal(number, self._handle)

    def fileno(self) -> int:
        """Readable when `take` has something."""
        return self._read

    def take(self) -> list[int]:
        """The signals that came since the last call, in their order."""
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self._read, 4096))
        return []

    def wake(self) -> None:
        """Make `fileno` readable from another thread; `take` gives 0 for it."""
        with contextlib.suppress(BlockingIOError):  # Full: it is readable.
            os.write(self._write, b"\0")

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """In this block a request to stop raises Stopped, wherever the main thread is."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._raises and number in STOPS:
            self._raises = False
            raise Stopped("stopped on request before training began")
