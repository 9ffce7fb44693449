"""`make bench`: every benchmark, ours beside another in the same run.

python tests/bench/run.py                 all, as a table
python tests/bench/run.py help overhead   some
python tests/bench/run.py --write         also to docs/benchmarks.md
python tests/bench/run.py --check         exit code 1 where a bound is not kept
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.comparison import Comparison
from bench.first_step import compare_first_step
from bench.help import compare_help
from bench.machine import Machine, look
from bench.operator_latency import compare_operator_latency
from bench.step_overhead import compare_step_overhead

BENCHMARKS: dict[str, Callable[[], Comparison]] = {
    "help": compare_help,
    "first-step": compare_first_step,
    "overhead": compare_step_overhead,
    "operator": compare_operator_latency,
}
HEADER = ["what", "ours", "other", "ratio", "bound", "kept"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by tests/bench/run.py --write -->\n", "<!-- end -->\n"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--check", action="store_true", help="fail where a bound is not kept")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark '{min(unknown)}'; there are {', '.join(BENCHMARKS)}")
    found, loads = [], []
    for name in arguments.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        loads.append(os.getloadavg()[0])
        found.append(BENCHMARKS[name]())
    machine = look(loads)
    print(as_text(found, machine))
    if arguments.write:
        write_page(found, machine)
    kept = all(comparison.is_kept for comparison in found)
    return 1 if arguments.check and not kept else 0


def as_text(found: list[Comparison], machine: Machine) -> str:
    """Aligned columns, then what is to be known of each line."""
    rows = [HEADER, *(comparison.cells() for comparison in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    notes = [f"{comparison.what}: {comparison.note}" for comparison in found]
    return "\n".join([*lines, "", *notes, "", describe(machine)])


def write_page(found: list[Comparison], machine: Machine) -> None:
    """Replace the measured part of the page; the words around it are written by hand."""
    rows = [HEADER, ["---"] * len(HEADER), *(comparison.cells() for comparison in found)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    notes = "".join(f"- {comparison.what}: {comparison.note}.\n" for comparison in found)
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    measured = f"{table}\n{notes}\n{describe(machine)}\n"
    PAGE.write_text(f"{before}{BEGIN}\n{measured}\n{END}{after}")


def describe(machine: Machine) -> str:
    """A line for those who compare."""
    return (
        f"{machine.date}; {machine.cores} cores of {machine.cpu}, {machine.memory_gib:.0f} GiB; "
        f"{machine.versions}; load average before each: {machine.load}."
    )


if __name__ == "__main__":
    sys.exit(main())
