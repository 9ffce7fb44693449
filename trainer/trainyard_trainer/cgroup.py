"""What the kernel tells of the container: its memory, its processors, and whom it killed."""

import math
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_KILLS = ("memory.events", "memory/memory.oom_control")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_USED = ("memory.current", "memory/memory.usage_in_bytes")
_STATS = ("memory.stat", "memory/memory.stat")
_UNLIMITED_BYTES = 2**60
"""Version 1 writes a huge number where there is no limit."""


def oom_kills(root: Path = ROOT) -> int | None:
    """Processes killed in this container for want of memory; None where nothing tells."""
    for name in _KILLS:
        for line in _text(root / name).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill" and value.isdecimal():
                return int(value)
    return None


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """The container's memory limit; None where there is none."""
    for name in _LIMITS:
        text = _text(root / name).strip()
        if text.isdecimal() and int(text) < _UNLIMITED_BYTES:
            return int(text)
    return None


def memory_left_bytes(root: Path = ROOT, machine: Path = Path("/proc/meminfo")) -> int | None:
    """What may still be used, of the container's limit and of the machine; None: nothing tells."""
    left = [kib * 1024 for name, kib in _numbers(machine) if name == "MemAvailable:"]
    limit = memory_limit_bytes(root)
    used = next((int(t) for n in _USED if (t := _text(root / n).strip()).isdecimal()), None)
    if limit is not None and used is not None:
        # The kernel gives up cached files before it kills.
        names = ("inactive_file", "total_inactive_file")
        stats = [dict(_numbers(root / name)) for name in _STATS]
        cached = max((stat.get(name, 0) for stat in stats for name in names), default=0)
        left.append(limit - used + cached)
    return min(left, default=None)


def processors(root: Path = ROOT) -> int:
    """Processors that this container may keep busy: of the machine, or of its CPU limit."""
    available = len(os.sched_getaffinity(0))
    quota = _text(root / "cpu.max").split() or [
        _text(root / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    ]
    if all(value.isdecimal() for value in quota):
        available = min(available, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, available)


def _numbers(path: Path) -> list[tuple[str, int]]:
    """Lines that begin with a name and a number."""
    lines = (line.split() for line in _text(path).splitlines())
    return [(line[0], int(line[1])) for line in lines if len(line) > 1 and line[1].isdecimal()]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
