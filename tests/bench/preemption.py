"""(g) Steps done twice in 1,600 steps with a checkpoint every 400 and four preemptions.

Compared: a gang of two nodes under `trainyard run`, one of which is told to stop as a kubelet does
it, SIGTERM to the launcher, at a random step of each 400; and, for honesty, SIGKILL without notice.
Steps are counted by the ranks as they do them. Ray Train's figures are those published for the same
plan; they were not measured here. Not compared: time.
"""

import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.comparison import Comparison
from bench.noted_run import Run, trainyard_run
from bench.notes import Note

STEPS, EVERY, PREEMPTIONS = 1600, 400, 4
BOUND_STEPS = 8
REPETITIONS = 10
PUBLISHED = 517
PUBLISHED_NEWEST = 91


def compare_preemption(repetitions: int = REPETITIONS) -> Iterator[Comparison]:
    """Several runs with notice, a third as many without."""
    source = random.Random(0)
    warned = [repeated_steps(signal.SIGTERM, source) for _ in range(repetitions)]
    without = range(max(1, repetitions // 3))
    killed = [repeated_steps(signal.SIGKILL, source) for _ in without]
    yield Comparison(
        what="steps repeated, 4 preemptions with notice",
        ours=warned,
        other=[PUBLISHED],
        other_name="Ray Train, as published",
        bound=BOUND_STEPS,
        bounded="worst",
        unit="steps",
        note=f"the worst of {repetitions} runs",
    )
    yield Comparison(
        what="the same",
        ours=warned,
        other=[PUBLISHED_NEWEST],
        other_name="Ray Train's newest API, as published",
        unit="steps",
    )
    yield Comparison(
        what="steps repeated, 4 nodes killed without notice",
        ours=killed,
        unit="steps",
        note=f"the median of {len(killed)} runs: what came after the last checkpoint is lost",
    )


def repeated_steps(number: signal.Signals, source: random.Random) -> int:
    """One run; by the rank that did more."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name:
        with trainyard_run(
            Path(name), {"steps": STEPS}, nodes=2, checkpoint={"everySteps": EVERY}
        ) as run:
            for index in range(PREEMPTIONS):
                preempt(run, index, number, source)
            run.wait_until(lambda: run.process.poll() == 0, "end of the run")
        counts = []
        for rank in range(2):
            steps = [note.step for note in run.notes.read(rank)]
            if set(steps) != set(range(1, STEPS + 1)):
                raise RuntimeError(f"rank {rank} left out steps")
            counts.append(len(steps) - STEPS)
    print(f"  {number.name}: {max(counts)} steps repeated", file=sys.stderr)
    return max(counts)


def preempt(run: Run, index: int, number: signal.Signals, source: random.Random) -> None:
    """A random node at a random step of the index-th 400."""
    run.wait_until_step(index * EVERY + source.randrange(20, EVERY - 20))
    rank = source.randrange(2)
    before = run.notes.newest(rank)
    os.kill(run.launcher_of(rank), number)
    run.wait_until(lambda: is_replaced(run, rank, before), "step after the preemption")


def is_replaced(run: Run, rank: int, before: Note | None) -> bool:
    """Whether another process makes the rank's steps."""
    now = run.notes.newest(rank)
    return before is not None and now is not None and now.process != before.process
