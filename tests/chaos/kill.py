"""`make chaos`: killed twelve times, anywhere, a run ends bit for bit like one that never was.

    python tests/chaos/kill.py [--seeds 1 2 3] [--models digits gan] [--kills 12] [--keep]

Every run is a job of two ranks through `trainyard run`: the operator's planner makes the attempts.
"""

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chaos import job
from chaos.depot import open_depots
from chaos.schedule import draw
from chaos.trial import Case, Court, Verdict

COLUMNS = (
    *("model", "seed", "ranks", "storage", "kills", "attempts", "in place"),
    *("repeated", "seconds", "equal"),
)
CASES = (
    Case("digits", 1, 2, "s3"),
    Case("digits", 2, 1, "file"),
    Case("digits", 3, 1, "legacy"),
    Case("gan", 1, 1, "s3"),
    Case("gan", 2, 2, "legacy"),
    Case("gan", 3, 2, "file"),
)


def main() -> int:
    """Returns 0 where every run ended as if nothing had happened."""
    arguments = parse()
    print_row(COLUMNS)
    failed, kinds = 0, Counter[str]()
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="chaos-")
        root = Path(arguments.keep or stack.enter_context(temporary))
        court = Court(root, stack.enter_context(open_depots(root)))
        for case in CASES:
            if case.model not in arguments.models or case.seed not in arguments.seeds:
                continue
            verdict = court.judge(case, draw(case.seed, job.STEPS, arguments.kills))
            show(case, verdict)
            failed += bool(verdict.found)
            kinds.update(blow.kill.kind for blow in verdict.outcome.blows)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{kinds.total()} kills: {listed}.")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--models", nargs="+", default=list(job.RECIPES), choices=list(job.RECIPES))
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--keep", metavar="DIR", help="leave everything there")
    return parser.parse_args()


def show(case: Case, verdict: Verdict) -> None:
    """One row of the table, and below it the kills and what differs."""
    outcome = verdict.outcome
    print_row(
        (
            case.model,
            case.seed,
            case.layout,
            case.storage,
            len(outcome.blows),
            verdict.attempts,
            verdict.in_place,
            outcome.repeated_steps,
            f"{outcome.seconds:.0f}",
            "no" if verdict.found else "yes",
        )
    )
    for blow in outcome.blows:
        print(f"    {blow.kill.kind} at step {blow.step or '-'}: {', '.join(blow.victims)}")
    for line in verdict.found:
        print(f"    DIFFERS: {line}")


def print_row(values: tuple[object, ...]) -> None:
    print("".join(f"{value!s:<10}" for value in values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
