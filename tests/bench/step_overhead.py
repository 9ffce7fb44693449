"""(a) A step of the engine beside the raw loop, Lightning's Fabric and Trainer, and Accelerate.

Compared: CPU time of a few steps in turns, one thread each, on the same batches with the same
network, optimizer and schedule: 200 steps of a network of 4,938 parameters, or 5 of the digits.
Ours also measures loss and accuracy, reads them, writes the progress report, keeps the watchdog,
and asks whether to stop or save; the others do none of that. Each has a process of its own, several
times over, since where memory comes to lie makes a percent; the raw loop shares ours. Not compared:
several ranks, GPUs, loading of data.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench.baton import Contestant, Turn
from bench.comparison import Absent, Comparison, Row
from bench.digits import images_as_tensors, write_folder

BOUNDS = {"mlp": None, "digits": 1.02}
"""Over the raw loop."""
REPETITIONS = 40
"""Turns of a process."""
LAUNCHES = 3
WARM_UP = 2
HERE = Path(__file__).resolve().parent
OURS = "ours"
PEERS = {
    "fabric": ("Lightning Fabric", "lightning"),
    "trainer": ("Lightning Trainer", "lightning"),
    "accelerate": ("Accelerate", "accelerate"),
}
"""By loop: its name, and the package that it needs."""
WHAT = {"mlp": "step of a tiny MLP, CPU", "digits": "step of the digits, CPU"}
STEPS = {"mlp": 200, "digits": 5}


def compare_step_overhead(repetitions: int = REPETITIONS) -> Iterator[Row]:
    """Both networks, each against all."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name:
        place = Path(name)
        write_folder(place / "data")
        images_as_tensors(place / "digits.pt")
        for model in ("mlp", "digits"):
            yield from compare(model, measure(model, place, repetitions))


def compare(model: str, turns: dict[str, list[Turn]]) -> Iterator[Row]:
    """The lines of one network."""
    ours = turns[OURS]
    raw = [turn.neighbour for turn in ours if turn.neighbour]
    wall = median(turn.own.wall / beside.wall for turn, beside in zip(ours, raw, strict=True))
    mine = [turn.own.cpu / STEPS[model] for turn in ours]
    yield Comparison(
        what=WHAT[model],
        ours=mine,
        other=[beside.cpu / STEPS[model] for beside in raw],
        other_name="raw PyTorch loop",
        bound=BOUNDS[model],
        note=f"{len(mine)} turns of {STEPS[model]} steps; ratio of wall time {wall:.3f}",
    )
    for loop, (name, package) in PEERS.items():
        if loop not in turns:
            note = f"{package} is not installed"
            yield Absent(what=WHAT[model], other_name=name, note=note)
            continue
        yield Comparison(
            what=WHAT[model],
            ours=mine,
            other=[turn.own.cpu / STEPS[model] for turn in turns[loop]],
            other_name=name,
            bound=1.0 if model == "mlp" else None,
        )


def measure(model: str, place: Path, repetitions: int) -> dict[str, list[Turn]]:
    """Turns by loop, the n-th of each next to the n-th of the others."""
    installed = [loop for loop, (_, package) in PEERS.items() if find_spec(package)]
    turns: dict[str, list[Turn]] = {loop: [] for loop in (OURS, *installed)}
    for launch in range(LAUNCHES):
        print(f"  {model}, launch {launch + 1} of {LAUNCHES}", file=sys.stderr)
        with ExitStack() as stack:
            contestants = {loop: start(loop, model, place / f"{model}-{launch}") for loop in turns}
            for contestant in contestants.values():
                stack.callback(contestant.end)
            for contestant in contestants.values():
                contestant.wait()
            for turn in range(WARM_UP + repetitions):
                for loop, contestant in contestants.items():
                    took = Turn.of(contestant.turn())
                    if turn >= WARM_UP:
                        turns[loop].append(took)
    return turns


def start(loop: str, model: str, place: Path) -> Contestant:
    """A process of one loop."""
    place.mkdir(exist_ok=True)
    digits = place.with_name("digits.pt")
    command: list[str | Path] = [HERE / "peer_loops.py", loop, model, digits]
    if loop == OURS:
        command = [HERE / "our_loop.py", model, place.with_name("data"), digits, place]
    return Contestant(command, place / f"{loop}.log")
