"""Processes by number: whether they live, whose children they are, and how they are killed."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def parent_of(pid: int) -> int:
    """0 where the process is gone."""
    return int((_stat(pid) or ["", "0"])[1])


def launcher_of(rank: int, runner: int) -> int:
    """The child of the runner that the rank descends from: what stands in for its pod."""
    while (parent := parent_of(rank)) not in {0, 1, runner}:
        rank = parent
    return rank if parent == runner else 0


def kill_all(pids: Iterable[int]) -> list[int]:
    """SIGKILL to all at once; returns those that were alive."""
    alive = [pid for pid in pids if is_alive(pid)]
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return alive


def wait_until_gone(pids: Iterable[int], seconds: float) -> bool:
    """Whether all ended in time."""
    left, until = set(pids), time.monotonic() + seconds
    while left and time.monotonic() < until:
        left = {pid for pid in left if is_alive(pid)}
        time.sleep(0.005)
    return not left


def _stat(pid: int) -> list[str]:
    """State, parent and the rest; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
