"""(b) How long training stands still for a checkpoint of 250 MB, and how it fares after.

Compared: `Checkpointer.save` to a folder and to an S3 server on the same machine; torch.save with a
rename; and torch.distributed.checkpoint's async_save with its thread and with its process, whose
stager keeps its buffers. Each is a process of its own, a save in turns: the seconds until the call
returns, and those of the 20 steps after it. Ours also digests what it writes and makes sure that it
is on the disk. Not compared: several ranks, a GPU, how soon the checkpoint is complete.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.baton import Contestant
from bench.comparison import Absent, Comparison, Row, shown
from cluster.console import ClusterError
from cluster.s3 import S3
from demo.jobs import BUCKET

BOUND_SECONDS = 0.04
REPETITIONS = 12
STEPS = 20
SCRIPT = Path(__file__).with_name("pause_loop.py")
OURS, OURS_S3 = "ours", "ours to S3"
PEERS = {
    "torch.save": "torch.save",
    "dcp-thread": "async_save, thread",
    "dcp-process": "async_save, process",
}
Turns = dict[str, list[list[float]]]
"""By way to save: pause, 20 steps before, 20 after."""


def compare_pause(repetitions: int = REPETITIONS) -> Iterator[Row]:
    """The first save of each, which makes its buffers, is shown apart."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name, ExitStack() as stack:
        place = Path(name)
        contestants = start(place, stack)
        yield from compare(measure(contestants, repetitions + 1))


def start(place: Path, stack: ExitStack) -> dict[str, Contestant]:
    """One process for each way."""
    commands: dict[str, list[str | Path]] = {
        kind: [SCRIPT, kind, place / kind] for kind in (OURS, *PEERS)
    }
    environment: dict[str, str] = {}
    try:
        access = stack.enter_context(S3(place / "s3"))
    except ClusterError as error:
        print(f"  without S3: {error}", file=sys.stderr)
    else:
        (place / "s3" / BUCKET).mkdir()  # Which makes it a bucket.
        environment = access.environment()
        commands[OURS_S3] = [SCRIPT, OURS, f"s3://{BUCKET}/pause", access.endpoint]
    contestants = {}
    for kind, command in commands.items():
        log = place / f"{kind}.log"
        contestants[kind] = Contestant(command, log, environment)
        stack.callback(contestants[kind].end)
    return contestants


def measure(contestants: dict[str, Contestant], repetitions: int) -> Turns:
    """In turns; a peer that fails is left out."""
    turns: Turns = {kind: [] for kind in contestants}
    for repetition in range(repetitions + 1):
        print(f"  save {repetition} of {repetitions}", file=sys.stderr)
        for kind in list(turns):
            contestant = contestants[kind]
            try:
                told = contestant.wait() if repetition == 0 else contestant.turn()
            except RuntimeError as error:
                if kind == OURS:
                    raise
                print(f"  {error}", file=sys.stderr)
                del turns[kind]
                continue
            if repetition:
                turns[kind].append(told)
    return turns


def compare(turns: Turns) -> Iterator[Row]:
    """The first save of each, which makes its buffers, is told apart."""
    first = "; ".join(f"{kind} {shown(told[0][0])}" for kind, told in turns.items())
    pauses = {kind: [pause for pause, *_ in told[1:]] for kind, told in turns.items()}
    after = {kind: [seconds for *_, seconds in told[1:]] for kind, told in turns.items()}
    before = [seconds for _, seconds, _ in turns[OURS][1:]]
    what = "pause per 250 MB"
    yield Comparison(
        what=what,
        ours=pauses[OURS],
        bound=BOUND_SECONDS,
        bounded="median",
        note=f"{len(pauses[OURS])} saves of each after a first one: {first}",
    )
    yield from beside(what, pauses, OURS_S3)
    what = f"{STEPS} steps after a save"
    yield Comparison(what=what, ours=after[OURS], other=before, other_name=f"the {STEPS} before")
    yield from beside(what, after, OURS_S3)


def beside(what: str, series: dict[str, list[float]], s3: str) -> Iterator[Row]:
    """Ours to a folder beside all others, ours to S3 among them."""
    for kind, name in {s3: s3, **PEERS}.items():
        if kind in series:
            yield Comparison(what=what, ours=series[OURS], other=series[kind], other_name=name)
        else:
            yield Absent(what=what, other_name=name, note=f"{name} did not run")
