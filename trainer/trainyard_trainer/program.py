"""Runs a program of any image, which has no Trainyard in it: only a Python from 3.8 on.

    python3 program.py COMMAND [ARGUMENT...]

The companion, a container of our own in the same pod, copies this file to the folder that both
share, and talks with it through files there:

    ready           the companion has prepared everything: start
    output/*.log    what the program writes, in pieces; the companion takes them to storage
    end.json        how the program ended
    kill            the companion found that the program hangs: kill it
    alive           touched by the companion every second
    summary.json    the companion's last word: the termination message and the exit code
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

SHARED = "TRAINYARD_SHARED"
TERMINATION_LOG = "TRAINYARD_TERMINATION_LOG"
READY, KILL, ALIVE = "ready", "kill", "alive"
END, SUMMARY, OUTPUT = "end.json", "summary.json", "output"
PIECE_BYTES = 4 * 2**20
MOST_PIECES = 16
"""More would fill the node's disk while storage is away: the oldest is given up."""
STOP_SECONDS = 60.0
"""From a request to stop until the program is killed; a pod has 120 s."""
SILENCE_SECONDS = 30.0
"""A companion that has not touched its file for so long has no last word."""
POLL_SECONDS = 0.1
CHECKPOINTED, CONFIGURATION = 75, 78
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def write_whole(path: Path, text: str) -> None:
    """Nobody ever reads half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class Output:
    """Copies what the program writes to this container's output and to pieces in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number, self._size = folder, -1, PIECE_BYTES
        self._file = -1
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, data: bytes) -> None:
        """A full disk costs the copy, not the program."""
        with contextlib.suppress(OSError):
            write_all(1, data)
        with contextlib.suppress(OSError):
            if self._size >= PIECE_BYTES:
                self._next()
            write_all(self._file, data)
        self._size += len(data)

    def _next(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._number, self._size = self._number + 1, 0
        path = self._folder / f"{self._number:06d}.log"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for old in sorted(self._folder.iterdir())[:-MOST_PIECES]:
            old.unlink()


def write_all(descriptor: int, data: bytes) -> None:
    """Wait where the reader is slow."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Program:
    """The program, from before its start to its last word."""

    def __init__(self, shared: Path, command: list[str]) -> None:
        self._shared, self._command = shared, command
        self._pid: int | None = None
        self._code: int | None = None
        self._ended: float | None = None
        self._kill_at: float | None = None
        self._stopping = self._killed = False
        self._error = ""
        self._oom_kills = oom_kills()
        self._wake, wake = os.pipe()
        for descriptor in (self._wake, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def run(self) -> int:
        """All of it; returns the container's exit code."""
        while not (self._stopping or self._is_there(READY) or self._is_there(SUMMARY)):
            time.sleep(POLL_SECONDS)
        if self._is_there(READY) and not self._stopping:
            try:
                self._supervise()
            except OSError as problem:
                self._error = os.strerror(problem.errno or 0)
        end = {
            "exit_code": self._code,
            "ended": self._ended,
            "stopped": self._stopping,
            "killed": self._killed,
            "out_of_memory": oom_kills() > self._oom_kills,
            "start_error": self._error,
        }
        with contextlib.suppress(OSError):
            write_whole(self._shared / END, json.dumps(end))
        return self._conclude()

    def _supervise(self) -> None:
        output = Output(self._shared / OUTPUT)
        read, write = os.pipe()
        os.set_blocking(read, False)
        # Popen's own waiting is not used: this may be process 1, which collects every orphan.
        child = subprocess.Popen(self._command, stdout=write, stderr=write)
        self._pid = child.pid
        os.close(write)
        selector = selectors.DefaultSelector()
        selector.register(read, selectors.EVENT_READ)
        selector.register(self._wake, selectors.EVENT_READ)
        if self._stopping:  # Before there was anything to signal.
            self._stop(signal.SIGTERM, None)
        while self._code is None:
            for key, _ in selector.select(1.0):
                if key.fd == self._wake:
                    os.read(self._wake, 4096)
                elif pour(read, output) == 0:
                    selector.unregister(read)
            self._reap()
            self._kill_late()
        child.returncode = self._code
        while pour(read, output):
            pass

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._pid:
                    self._ended = time.time()
                    # os.waitstatus_to_exitcode is newer than 3.8.
                    is_signaled = os.WIFSIGNALED(status)
                    self._code = -os.WTERMSIG(status) if is_signaled else os.WEXITSTATUS(status)

    def _stop(self, number: int, _: object) -> None:
        """A signal handler: the program is asked to stop, and killed if it takes too long."""
        self._stopping = True
        if self._pid is not None and self._code is None:
            self._kill_at = self._kill_at or time.monotonic() + STOP_SECONDS
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def _kill_late(self) -> None:
        is_late = self._kill_at is not None and time.monotonic() >= self._kill_at
        if self._pid and not self._killed and (is_late or self._is_there(KILL)):
            self._killed = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _conclude(self) -> int:
        """Wait for the companion's word; without one, say it in few words of our own."""
        while self._is_there(READY) and not self._is_there(SUMMARY) and self._has_companion():
            time.sleep(POLL_SECONDS)
        try:
            text = (self._shared / SUMMARY).read_text(encoding="utf-8")
            code = int(json.loads(text)["exit_code"])
        except (OSError, ValueError, KeyError, TypeError):
            code = self._own_code()
            text = json.dumps({"exit_code": code, "message": self._own_words()})
        try:
            path = os.environ.get(TERMINATION_LOG, "/dev/termination-log")
            Path(path).write_text(text, encoding="utf-8")
        except OSError as problem:
            print(f"trainyard: no termination message: {problem}", file=sys.stderr)
        return code

    def _own_code(self) -> int:
        if self._error:
            return CONFIGURATION
        if self._stopping:
            return CHECKPOINTED
        code = self._code or 0
        return code if code >= 0 else 128 - code

    def _own_words(self) -> str:
        if self._error:
            return f"spec.command: cannot start '{self._command[0]}' ({self._error})"
        return "stopped on request" if self._stopping else f"exited with code {self._code}"

    def _has_companion(self) -> bool:
        try:
            return time.time() - (self._shared / ALIVE).stat().st_mtime < SILENCE_SECONDS
        except OSError:
            return False

    def _is_there(self, name: str) -> bool:
        return (self._shared / name).exists()


def pour(descriptor: int, output: Output) -> int | None:
    """Read once; returns how many bytes: None where there are none now, 0 at the end."""
    try:
        data = os.read(descriptor, 64 * 1024)
    except BlockingIOError:
        return None
    if data:
        output.take(data)
    return len(data)


def oom_kills() -> int:
    """How often the kernel ended a process of this container for want of memory."""
    for path in OOM_COUNTERS:
        with contextlib.suppress(OSError):
            words = [line.split() for line in Path(path).read_text().splitlines()]
            return sum(int(line[1]) for line in words if line and line[0] == "oom_kill")
    return 0


if __name__ == "__main__":
    sys.exit(Program(Path(os.environ[SHARED]), sys.argv[1:]).run())
