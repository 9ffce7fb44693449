"""Ends a rank that makes no progress: a thread that nothing but `beat` keeps quiet."""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from trainyard_operator.contract import Cause, ExitCode
from trainyard_trainer.context import Failure


class Watchdog:
    """Dumps all threads' stacks and exits 76 when `beat` stays away for the timeout."""

    def __init__(self, timeout_seconds: float, failure_file: Path, rank: int) -> None:
        self.last = time.monotonic()
        """When the rank last showed life; the hot loop sets it directly."""
        self._timeout, self._file, self._rank = timeout_seconds, failure_file, rank
        self._main = threading.main_thread().ident
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.last = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Cease to watch."""
        self._done.set()

    def beat(self) -> None:
        """Show life."""
        self.last = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, silence is no stall: storage has time limits of its own."""
        self.last = float("inf")
        try:
            yield
        finally:
            self.last = time.monotonic()

    def _watch(self) -> None:
        pause = min(1.0, self._timeout / 10)
        while not self._done.wait(pause):
            silent = time.monotonic() - self.last
            if silent > self._timeout:
                self._end(silent)

    def _end(self, silent: float) -> None:
        message = (
            f"Rank {self._rank} made no progress for {silent:.0f} s (stallTimeoutSeconds "
            f"{self._timeout:g}); its main thread is at {self._place()}."
        )
        failure = Failure(exit_code=ExitCode.PEER_LOST, cause=Cause.STALLED.value, message=message)
        with contextlib.suppress(Exception):
            print(message, file=sys.stderr)
            faulthandler.dump_traceback(all_threads=True)
            sys.stderr.flush()
            self._file.write_text(json.dumps(failure.to_dict()))
        os._exit(ExitCode.PEER_LOST)

    def _place(self) -> str:
        frame = sys._current_frames().get(self._main or 0)
        if frame is None:
            return "an unknown place"
        last = traceback.extract_stack(frame)[-1]
        return f"{Path(last.filename).name}:{last.lineno} ({last.name})"
