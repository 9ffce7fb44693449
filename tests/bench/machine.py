"""What the figures depend on: the machine, its load, the versions."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "lightning", "accelerate", "ray", "nvidia-resiliency-ext")
"""Ours and those that it is compared with, where they are installed."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """As it is while the benchmarks run."""

    cores: int
    memory_gib: float
    cpu: str
    date: str
    versions: str
    load_before: float
    """Processes that wanted a core in the minute before; the benchmark's own are in `after`."""
    load_after: float


def look(load_before: float, load_after: float) -> Machine:
    """The loads as they were noted."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    named = [f"{name} {found}" for name in PACKAGES if (found := installed(name))]
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gib=memory,
        cpu=cpu_model(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        versions=", ".join([f"Python {platform.python_version()}", *named]),
        load_before=load_before,
        load_after=load_after,
    )


def installed(package: str) -> str | None:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_model() -> str:
    """As the kernel calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
