"""Ends a rank that makes no progress: a thread that nothing but `beat` keeps quiet."""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from trainyard_operator.contract import Cause, ExitCode
from trainyard_trainer.context import Failure

SLOW_FACTOR = 6
"""What is done once takes longer than a step: building a stage, a first step, an evaluation."""
KEEP_SECONDS = 5.0
"""How long the stacks may take to reach storage."""
LINGER_SECONDS = 2.0
"""From the verdict to the exit, so that the other ranks, whose end it brings, leave theirs."""
STANDARD_ERROR = 2
_WAITS = (
    "/torch/distributed/",
    "/torch/nn/parallel/distributed.py",
    "/torch/autograd/graph.py",
    "/torch/cuda/",
    *(
        f"/trainyard_trainer/{name}.py"
        for name in ("agreement", "distributed", "gang", "metrics", "stage_run", "stepper")
    ),
)
"""A main thread right here waits for the other ranks, or for a device that does."""


class Watchdog:
    """Keeps all threads' stacks and exits 76 when `beat` stays away for the timeout."""

    def __init__(
        self,
        timeout_seconds: float,
        failure_file: Path,
        rank: int,
        keep: Callable[[str], None] = lambda _: None,
    ) -> None:
        """keep: stores the stacks."""
        self.last = time.monotonic()
        """When the rank last showed life; the hot loop sets it directly."""
        self._timeout, self._file, self._rank, self._keep = (
            timeout_seconds,
            failure_file,
            rank,
            keep,
        )
        self._pause = min(1.0, timeout_seconds / 10)
        self._slow: tuple[float, str] = (0.0, "")  # What `last` then was, and what is slow.
        self._main = threading.main_thread().ident
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.allow("the start")
        self._thread.start()

    def stop(self) -> None:
        """Cease to watch."""
        self._done.set()
        faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        """Show life."""
        self.last = time.monotonic()

    def allow(self, what: str) -> None:
        """Show life; until the next sign of it, SLOW_FACTOR times the timeout may pass.

        The other ranks wait that long, too: call it on all of them.
        """
        self.last = time.monotonic() + (SLOW_FACTOR - 1) * self._timeout
        self._slow = (self.last, what)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, silence is no stall: storage has time limits of its own."""
        before, self.last = self.last, float("inf")
        faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self.last = max(before, time.monotonic())

    def _watch(self) -> None:
        while not self._done.wait(self._pause):
            left = self.last + self._timeout - time.monotonic()
            if left < 0:
                self._end()
            elif left != float("inf"):
                self._arm(left + 2 * self._pause + 1)

    def _arm(self, seconds: float) -> None:
        """For code that keeps this very thread from running: dump the stacks, exit with code 1."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)
        if self.last == float("inf") or self._done.is_set():  # Meanwhile.
            faulthandler.cancel_dump_traceback_later()

    def _end(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        began = time.monotonic()
        with contextlib.suppress(Exception):
            place, waits = self._place()
            message = self._message(place, waits)
            stacks = f"Rank {self._rank}: {message}\n\n{stacks_of_all_threads()}"
            print(stacks, file=sys.stderr, flush=True)
            failure = Failure(
                exit_code=ExitCode.PEER_LOST,
                cause=Cause.STALLED.value,
                message=message,
                waited=waits,
            )
            self._file.write_text(json.dumps(failure.to_dict()))
            keeper = threading.Thread(target=self._keep, args=(stacks,), daemon=True)
            keeper.start()
            keeper.join(KEEP_SECONDS)
        time.sleep(max(0.0, min(LINGER_SECONDS, self._timeout) - (time.monotonic() - began)))
        os._exit(ExitCode.PEER_LOST)

    def _message(self, place: str, waits: bool) -> str:
        silent, during = time.monotonic() - self.last, ""
        limit = f"stallTimeoutSeconds {self._timeout:g}"
        if self._slow[0] == self.last:
            silent += (SLOW_FACTOR - 1) * self._timeout
            limit, during = f"{SLOW_FACTOR} x {limit}", f" during {self._slow[1]}"
        does = "waits for other ranks at" if waits else "is at"
        return f"no progress for {silent:.0f} s{during} ({limit}); its main thread {does} {place}."

    def _place(self) -> tuple[str, bool]:
        """Where the main thread is, and whether it waits there for the other ranks."""
        frame = sys._current_frames().get(self._main or 0)
        if frame is None:
            return "an unknown place", False
        last = traceback.extract_stack(frame)[-1]
        waits = any(part in last.filename for part in _WAITS)
        return f"{Path(last.filename).name}:{last.lineno} ({last.name})", waits


def stacks_of_all_threads() -> str:
    """As a traceback has them, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames: dict[int, FrameType] = sys._current_frames()
    parts = []
    for ident, frame in frames.items():
        parts.append(f"Thread '{names.get(ident, 'unknown')}' ({ident}):\n")
        parts += [*traceback.format_stack(frame), "\n"]
    return "".join(parts)
