"""`make bench`: every benchmark, ours beside another in the same run.

python tests/bench/run.py                   all, as tables
python tests/bench/run.py cursor overhead   some
python tests/bench/run.py --quick           a look: too few repetitions to judge by
python tests/bench/run.py --write           also to docs/benchmarks.md
python tests/bench/run.py --check           exit code 1 where a bound is not kept
"""

import argparse
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.comparison import Absent, Comparison
from bench.machine import look
from bench.page import Section, as_text, write_page

BENCHMARKS = {
    "help": ("bench.help:compare_help", 5),
    "first-step": ("bench.first_step:compare_first_step", 1),
    "operator": ("bench.operator_latency:compare_operator_latency", 3),
    "start": ("bench.operator_start:compare_operator_start", 3),
    "overhead": ("bench.step_overhead:compare_step_overhead", 10),
    "recipes": ("bench.recipe_steps:compare_recipe_steps", 4),
    "sizes": ("bench.real_sizes:compare_real_sizes", 2),
    "pause": ("bench.pause:compare_pause", 2),
    "recovery": ("bench.recovery:compare_recovery", 3),
    "upload": ("bench.upload:compare_upload", 2),
    "resume": ("bench.resume:compare_resume", 2),
    "cursor": ("bench.cursor:compare_cursor", 3),
    "preemption": ("bench.preemption:compare_preemption", 1),
}
"""By name: the function, and how many repetitions, or sizes, a quick look takes."""


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--check", action="store_true", help="fail where a bound is not kept")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark '{min(unknown)}'; there are {', '.join(BENCHMARKS)}")
    if arguments.quick and arguments.write:
        parser.error("--quick measures too little to write down")
    # What was started is ended, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sections = []
    for name in arguments.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        section = measure(name, quick=arguments.quick)
        print(f"\n{as_text(section)}\n", flush=True)
        if arguments.write:
            write_page(section)
        sections.append(section)
    broken = [row.what for section in sections for row in section.rows if not row.is_kept]
    if broken:
        print(f"bounds not kept: {'; '.join(broken)}", file=sys.stderr)
    return 1 if arguments.check and broken else 0


def measure(name: str, *, quick: bool) -> Section:
    """One benchmark; where it fails, that is what its table says."""
    target, few = BENCHMARKS[name]
    module, _, function = target.partition(":")
    began, before = time.monotonic(), os.getloadavg()[0]
    try:
        compare = getattr(importlib.import_module(module), function)
        found = compare(few) if quick else compare()
        rows = (found,) if isinstance(found, Comparison | Absent) else tuple(found)
    except Exception as error:
        traceback.print_exc()
        reason = f"failed with {type(error).__name__}"
        rows = (Absent(what=name, note=reason, is_kept=False),)
    return Section(
        name=name,
        rows=rows,
        machine=look(before, os.getloadavg()[0]),
        seconds=time.monotonic() - began,
    )


if __name__ == "__main__":
    sys.exit(main())
