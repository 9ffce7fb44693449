"""What the figures depend on: the machine, its load, the versions."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "click", "kopf", "aiohttp")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """As it is while the benchmarks run."""

    cores: int
    memory_gib: float
    cpu: str
    date: str
    versions: str
    load: str
    """Processes that want a core, over the last minute, before each benchmark."""


def look(loads: list[float]) -> Machine:
    """loads: as noted before each benchmark."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    named = [f"{name} {version(name)}" for name in PACKAGES]
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=memory,
        cpu=cpu_model(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        versions=", ".join([f"Python {platform.python_version()}", *named]),
        load=", ".join(f"{load:.1f}" for load in loads),
    )


def cpu_model() -> str:
    """As the kernel calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
