"""From the command to the first optimizer step of two ranks: `trainyard run` beside torchrun."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.comparison import Comparison, alternate
from bench.digits import images_as_tensors, write_folder
from bench.noted_run import install_recipe
from demo.jobs import digits_job, write_job

RANKS = 2
BOUND = 0.7
REPETITIONS = 7
HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 120


def compare_first_step(repetitions: int = REPETITIONS) -> Comparison:
    """The same network on the same images over gloo, 64 a step."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name:
        place = Path(name)
        ours, other = run_ours(place), run_torchrun(place)
        ours(), other()  # Files are then in the page cache for both.
        first, second = alternate(ours, other, repetitions)
    return Comparison(
        what="command to first step, 2 ranks",
        other_name="torchrun, plain DDP",
        ours=first,
        other=second,
        bound=BOUND,
        note="one machine, gloo, the digits and a network of 24,346 parameters; each rank notes "
        "the time after its first optimizer.step(), the later one counts",
    )


def run_ours(place: Path) -> Callable[[], float]:
    """`trainyard run` of one node and two processes, to its end."""
    write_folder(place / "data")
    job = digits_job(
        recipe="timed-digits",
        nodes=1,
        processesPerNode=RANKS,
        resources=None,
        dataset={"uri": f"file://{place / 'data'}"},
        storage={"uri": f"file://{place / 'runs'}"},
    )
    job["spec"]["config"]["training"]["epochs"] = 1
    file = write_job(job, place / "job.yaml")
    packages = install_recipe("timed-digits", place / "packages")
    environment = {"PYTHONPATH": packages, "XDG_STATE_HOME": str(place / "state")}
    command = [str(BIN / "trainyard"), "run", str(file), "--fresh"]
    return lambda: seconds_to_first_step(command, place, environment)


def run_torchrun(place: Path) -> Callable[[], float]:
    """The script that one writes by hand."""
    images_as_tensors(place / "digits.pt")
    script, directory = str(HERE / "by_hand.py"), str(place / "first")
    command = [str(BIN / "torchrun"), "--nproc-per-node", str(RANKS)]
    command += [script, str(place / "digits.pt"), directory]
    # Else torchrun says that it chose the same.
    environment = {"OMP_NUM_THREADS": "1"}
    return lambda: seconds_to_first_step(command, place, environment)


def seconds_to_first_step(command: list[str], place: Path, environment: Mapping[str, str]) -> float:
    """Run to a good end; returns the time until the last rank had made its first step."""
    directory = place / "first"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    log = place / "output.log"
    with log.open("wb") as output:
        began = time.time()
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment, "FIRST_STEP_DIRECTORY": str(directory)},
            timeout=PATIENCE_SECONDS,
        )
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{log.read_text()}")
    times = [float((directory / str(rank)).read_text()) for rank in range(RANKS)]
    return max(times) - began
