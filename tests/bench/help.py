"""What `trainyard --help` takes, beside a Python that does nothing."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.comparison import Comparison, alternate, shown

BOUND_SECONDS = 0.1
REPETITIONS = 25


def compare_help(repetitions: int = REPETITIONS) -> Comparison:
    """Wall time of whole processes."""
    trainyard = Path(sys.executable).with_name("trainyard")
    ours, other = timed(str(trainyard), "--help"), timed(sys.executable, "-c", "pass")
    ours(), other()
    first, second = alternate(ours, other, repetitions)
    return Comparison(
        what="trainyard --help",
        other_name="python -c pass",
        ours=first,
        other=second,
        bound=BOUND_SECONDS,
        bounded="median",
        note=f"fastest: {shown(min(first))} beside {shown(min(second))}",
    )


def timed(*command: str) -> Callable[[], float]:
    """A function that runs the command and returns how long it took."""

    def measure() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    return measure
