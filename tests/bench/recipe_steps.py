"""(k) A training step of each recipe beside a plain loop over the same networks.

Compared: seconds of a step of the first stage, one process and one thread, by the example in
configs/ on a batch that lies in memory, in turns within one process. Ours also clips, schedules,
measures and reads losses, writes reports, keeps the watchdog and asks whether to stop or save. Not
compared: loading of data, which recipe_waits.py measures by itself; several ranks, GPUs.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.baton import Contestant, Turn
from bench.comparison import Comparison, Row
from bench.recipe_loop import TURN
from bench.recipe_waits import measure_waits
from recipe_cases import CASES, Case

BOUND = 1.03
"""Over the plain loop: at most 3 % fewer samples a second."""
REPETITIONS = 20
WARM_UP = 2
HERE = Path(__file__).resolve().parent


def compare_recipe_steps(repetitions: int = REPETITIONS) -> Iterator[Row]:
    """Three lines for each recipe: its step, what that waits for data, and memory."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name:
        for case in CASES:
            print(f"  {case.recipe}", file=sys.stderr)
            place = Path(name) / case.recipe
            yield compare(case, place, repetitions)
            yield from measure_waits(case.recipe, place)


def compare(case: Case, place: Path, repetitions: int) -> Row:
    """Turns of one process."""
    data = place / "data"
    data.mkdir(parents=True)
    case.write(data)
    command: list[str | Path] = [HERE / "recipe_loop.py", case.recipe, data, place]
    contestant = Contestant(command, place / "loop.log")
    try:
        contestant.wait()
        turns = [Turn.of(contestant.turn()) for _ in range(WARM_UP + repetitions)][WARM_UP:]
    finally:
        contestant.end()
    size = int((place / "batch_size").read_text())
    beside = [turn.neighbour for turn in turns if turn.neighbour]
    ours, other = ([one.cpu / TURN for one in times] for times in ([t.own for t in turns], beside))
    pace = ", ".join(f"{size / median(one):.1f}" for one in (ours, other))
    return Comparison(
        what=f"step of {case.recipe}, CPU time",
        ours=ours,
        other=other,
        other_name="plain loop",
        bound=BOUND,
        note=f"batch of {size}; samples per second of CPU time: {pace} (ours, plain)",
    )
