"""From the start of the operator's process to ready, and what it then holds in memory."""

import tempfile
import time
from pathlib import Path

from bench.comparison import Comparison, shown
from bench.operator_latency import api_server, operator
from bench.process import cpu_seconds

START_BOUND_SECONDS = 3.0
MEMORY_BOUND_MB = 100.0
REPETITIONS = 10
IDLE_SECONDS = 3.0
"""After it was ready: what it had only for the start is given back by then, or never."""


def compare_operator_start(repetitions: int = REPETITIONS) -> list[Comparison]:
    """One operator after another beside one API server, which has no jobs."""
    seconds, cpu, resident = [], [], []
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as place, api_server() as api:
        for number in range(repetitions):
            began = time.perf_counter()
            with operator(api, Path(place) / f"operator-{number}.log") as daemon:
                seconds.append(time.perf_counter() - began)
                cpu.append(cpu_seconds(daemon.process.pid))
                time.sleep(IDLE_SECONDS)
                resident.append(resident_mb(daemon.process.pid))
    return [
        Comparison(
            what="operator, start of the process to ready",
            ours=seconds,
            bound=START_BOUND_SECONDS,
            bounded="worst",
            note=f"{shown(min(seconds))} to {shown(max(seconds))}, asked each 100 ms; "
            "ready means that jobs, sweeps and pods are listed and watched",
        ),
        Comparison(
            what="operator, CPU until it is ready",
            ours=cpu,
            note="user and system, which a load of others lengthens least",
        ),
        Comparison(
            what="operator, resident when idle",
            ours=resident,
            bound=MEMORY_BOUND_MB,
            bounded="worst",
            unit="MB",
            note=f"{IDLE_SECONDS:g} s after it was ready, without jobs",
        ),
    ]


def resident_mb(pid: int) -> float:
    """Of a process, now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kib) * 1024 / 1e6
