"""What the engine adds to a step of the digits: its hot loop beside the loop one writes by hand."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.comparison import Comparison
from bench.digits import write_folder

BOUND = 1.03
SCRIPT = Path(__file__).with_name("raw_loop.py")
Block = tuple[tuple[float, float], tuple[float, float]]
"""Wall and CPU seconds of ours, then of the raw loop."""


def compare_step_overhead() -> Comparison:
    """1,000 steps of each, one thread, 5 steps in turns.

    CPU time is compared: on a machine with other work, wall time is that work's too.
    """
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name:
        blocks = run_blocks(Path(name))
    wall = median(ours[0] / raw[0] for ours, raw in blocks)
    return Comparison(
        what="5 steps of the digits, CPU",
        other_name="raw PyTorch loop",
        ours=[ours[1] for ours, _ in blocks],
        other=[raw[1] for _, raw in blocks],
        bound=BOUND,
        note=f"wall time: {wall:.3f}; same batches, optimizer and schedule, one thread; ours also "
        "measures accuracy, reads metrics every 5 steps, keeps the report and the watchdog, and "
        "asks whether to stop or save",
    )


def run_blocks(place: Path) -> list[Block]:
    """Block by block, from a process of its own."""
    folder = place / "data"
    write_folder(folder)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(place)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    blocks: list[Block] = json.loads(done.stdout.splitlines()[-1])
    return blocks
