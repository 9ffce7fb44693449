"""(c) From the SIGKILL of a rank to the next new step, and how many steps it costs.

Compared: two ranks on one machine over gloo, steps of some 12 ms, a checkpoint every 10: ours as
`trainyard run` runs it; a script that resumes from a file under torchrun, which is told not to wait
for peers, and under nvidia-resiliency-ext's ft_launcher; and the same under Ray Train. Ranks are
killed in turns, a second or two after they recovered. Ranks note their steps; a step is new if it
lies beyond all that was done before the kill. Not compared: nodes that are lost.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.comparison import Absent, Comparison, Row, shown
from bench.noted_run import TESTS, Run, started, trainyard_run
from bench.notes import Note

BOUND_SECONDS, WORST_SECONDS = 0.5, 2.0
REPETITIONS = 25
REPETITIONS_OF_OTHERS = 5
EVERY, PAUSE_SECONDS = 10, 0.01
STEPS = 50_000
SETTLE_SECONDS = (1.0, 2.0)
RANKS = 2
BIN = Path(sys.executable).parent
RESUMING = [
    str(TESTS / "bench" / "resuming.py"),
    "{place}/state.pt",
    str(EVERY),
    str(PAUSE_SECONDS),
]
TORCHRUN = [
    "torchrun",
    "--standalone",
    "--nproc-per-node",
    str(RANKS),
    "--max-restarts",
    "1000",
]
QUIET_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
"""Tells nobody, and leaves no token in the home directory."""
PEERS: dict[str, tuple[str, list[str]]] = {
    "torchrun": ("torch", [*TORCHRUN, "--shutdown-timeout", "1", *RESUMING]),
    "ft_launcher": (
        "nvidia_resiliency_ext",
        ["ft_launcher", *TORCHRUN[1:], *RESUMING],
    ),
    "Ray Train": (
        "ray",
        [
            "python",
            str(TESTS / "bench" / "resuming_ray.py"),
            "{place}",
            str(EVERY),
            str(PAUSE_SECONDS),
        ],
    ),
}
"""By name: the package that it needs, and the command."""


class Recovery(NamedTuple):
    """What one kill cost."""

    new: float
    """Seconds to the first step beyond those that were done."""
    first: float
    """Seconds to the first step of all."""
    lost: int
    """Steps done twice."""


def compare_recovery(repetitions: int = REPETITIONS) -> Iterator[Row]:
    """Ours first, then the others, each with less patience."""
    few = min(repetitions, REPETITIONS_OF_OTHERS)
    ours = measure("ours", run_ours, repetitions)
    yield from judge(ours, repetitions)
    for name, (package, command) in PEERS.items():
        yield from beside(ours, name, package, command, few)


def judge(ours: list[Recovery], repetitions: int) -> Iterator[Row]:
    """Median, worst, and whether all came back."""
    if not ours:
        raise RuntimeError("ours did not recover from its first kill")
    new = [one.new for one in ours]
    first = shown(median(one.first for one in ours))
    what = "SIGKILL of a rank to the next new step"
    yield Comparison(
        what=what,
        ours=new,
        bound=BOUND_SECONDS,
        bounded="median",
        note=f"{len(ours)} kills; to the first step, which repeats one: {first}",
    )
    yield Comparison(what=f"{what}, worst", ours=new, bound=WORST_SECONDS, bounded="worst")
    yield Comparison(
        what="kills without recovery",
        ours=[repetitions - len(ours)],
        bound=0,
        bounded="worst",
        unit="kills",
        note=f"of {repetitions}",
    )


def beside(
    ours: list[Recovery], name: str, package: str, command: list[str], repetitions: int
) -> Iterator[Row]:
    """Time and steps of another."""
    what = "SIGKILL of a rank to the next new step"
    if not find_spec(package):
        yield Absent(what=what, other_name=name, note=f"{package} is not installed")
        return
    try:
        theirs = measure(name, lambda place: run_other(place, command), repetitions)
    except Exception as error:
        print(f"  {name}: {error}", file=sys.stderr)
        theirs = []
    if not theirs:
        yield Absent(what=what, other_name=name, note=f"{name} did not recover here")
        return
    yield Comparison(
        what=what,
        ours=[one.new for one in ours],
        other=[one.new for one in theirs],
        other_name=name,
        note=f"{len(theirs)} of {repetitions} kills of {name}",
    )
    yield Comparison(
        what="steps repeated",
        ours=[one.lost for one in ours],
        other=[one.lost for one in theirs],
        other_name=name,
        unit="steps",
    )


def run_ours(place: Path) -> AbstractContextManager[Run]:
    """One node with two processes."""
    config = {"steps": STEPS, "pause_seconds": PAUSE_SECONDS}
    return trainyard_run(
        place, config, processesPerNode=RANKS, checkpoint={"everySteps": EVERY, "keepLast": 2}
    )


def run_other(place: Path, command: list[str]) -> AbstractContextManager[Run]:
    """A program of the same environment."""
    words = [word.replace("{place}", str(place)) for word in command]
    environment = {"PYTHONPATH": str(TESTS), "RAY_TMPDIR": str(place), **QUIET_RAY}
    return started([str(BIN / words[0]), *words[1:]], place, environment)


def measure(
    name: str, start: Callable[[Path], AbstractContextManager[Run]], repetitions: int
) -> list[Recovery]:
    """Kills one rank after the other; ends early where one does not come back."""
    source, found = random.Random(0), []
    place = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
    with place as directory, start(Path(directory)) as run:
        run.wait_until_step(2 * EVERY)
        for repetition in range(repetitions):
            time.sleep(source.uniform(*SETTLE_SECONDS))
            try:
                found.append(kill(run, repetition % RANKS))
            except RuntimeError as error:
                print(f"  {name}, kill {repetition + 1}: {error}", file=sys.stderr)
                break
            print(f"  {name}, kill {repetition + 1}: {shown(found[-1].new)}", file=sys.stderr)
    return found


def kill(run: Run, rank: int) -> Recovery:
    """Kill one rank and wait until it is beyond where the gang was."""
    victim = run.notes.newest(rank)
    assert victim is not None
    killed = time.time()
    os.kill(victim.process, signal.SIGKILL)
    notes: list[Sequence[Note]] = []

    def is_beyond() -> bool:
        newest = run.notes.newest(rank)
        if newest is None or newest.process == victim.process or newest.step <= victim.step:
            return False
        notes[:] = [run.notes.read(other) for other in range(RANKS)]
        return find(notes, rank, victim.process, killed) is not None

    run.wait_until(is_beyond, f"new step after the kill of rank {rank}")
    found = find(notes, rank, victim.process, killed)
    assert found is not None
    return found


def find(notes: Sequence[Sequence[Note]], rank: int, victim: int, killed: float) -> Recovery | None:
    """The killed rank's first new step; None where it has none yet.

    notes: of each rank. victim: the killed process.
    """
    mine = notes[rank]
    last_of_victim = max(index for index, note in enumerate(mine) if note.process == victim)
    since = mine[last_of_victim + 1 :]
    if not since:
        return None
    # A peer may have ended the step that was under way.
    done = max(note.step for one in notes for note in one if note.time < since[0].time)
    new = next((note for note in since if note.step > done), None)
    if new is None:
        return None
    return Recovery(new.time - killed, since[0].time - killed, done - since[0].step + 1)
