"""`make chaos`: killed ten times, anywhere, a run ends bit for bit like one that never was.

    python tests/chaos/kill.py [--seeds 1 2 3] [--models digits gan] [--kills 10] [--keep]

Every run is a job of two ranks through `trainyard run`: the operator's planner makes the attempts.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chaos import attack, compare, job, schedule
from chaos.attack import Outcome, Place
from chaos.depot import Depot, open_depots

COLUMNS = ("model", "seed", "ranks", "storage", "kills", "attempts", "repeated", "seconds", "equal")
PLAN = {
    ("digits", 1): (2, "s3"),
    ("digits", 2): (1, "file"),
    ("digits", 3): (1, "legacy"),
    ("gan", 1): (1, "s3"),
    ("gan", 2): (2, "legacy"),
    ("gan", 3): (2, "file"),
}
"""Model and seed to nodes and storage: with one node its two ranks are restarted in place."""


def main() -> int:
    """Returns 0 where every run ended as if nothing had happened."""
    arguments = parse()
    print_row(COLUMNS)
    failed = 0
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="chaos-")
        root = Path(arguments.keep or stack.enter_context(temporary))
        bench = Bench(root, stack.enter_context(open_depots(root)))
        for model, seed in PLAN:
            if model in arguments.models and seed in arguments.seeds:
                failed += not bench.show(model, seed, arguments.kills)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--models", nargs="+", default=list(job.RECIPES), choices=list(job.RECIPES))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--keep", metavar="DIR", help="leave everything there")
    return parser.parse_args()


@dataclass
class Verdict:
    """What became of a run under attack."""

    outcome: Outcome
    attempts: int
    found: list[str]
    """What differs from the run that was left alone."""


class Bench:
    """Runs jobs in folders below `root`."""

    def __init__(self, root: Path, depots: Mapping[str, Depot]) -> None:
        self._root, self._depots = root, depots
        job.write_data(root / "data")
        self._packages = job.install_recipes(root / "packages")

    def show(self, model: str, seed: int, count: int) -> bool:
        """One row of the table, and below it the kills and what differs."""
        nodes, storage = PLAN[model, seed]
        verdict = self.compare(model, seed, nodes, storage, schedule.draw(seed, job.STEPS, count))
        outcome = verdict.outcome
        print_row(
            (
                model,
                seed,
                f"{nodes}x{2 // nodes}",
                storage,
                len(outcome.blows),
                verdict.attempts,
                outcome.repeated_steps,
                f"{outcome.seconds:.0f}",
                "no" if verdict.found else "yes",
            )
        )
        for blow in outcome.blows:
            print(f"    {blow.kill.kind} at step {blow.step or '-'}: {', '.join(blow.victims)}")
        for line in verdict.found:
            print(f"    DIFFERS: {line}")
        return not verdict.found

    def compare(
        self, model: str, seed: int, nodes: int, storage: str, kills: list[schedule.Kill]
    ) -> Verdict:
        """A run that is left alone beside one under attack."""
        depot = self._depots[storage]
        stores, outcome = [], Outcome()
        for name, blows in (("calm", []), ("attacked", kills)):
            place = self._place(f"{model}-{seed}-{name}")
            job.write_job(place.job_file, model, seed, nodes, depot.spec(place.root))
            outcome = attack.run(place, blows, depot.wire(place.root))
            stores.append(depot.open(place.root).child(place.prefix))
        status = place.job_object["status"]
        found = compare.differences(stores[0], stores[1], attack.RANKS)
        found += compare.account_differences(status, len(outcome.blows))
        return Verdict(outcome, status["attempt"], found)

    def _place(self, name: str) -> Place:
        root = self._root / name
        root.mkdir()
        (root / "data").symlink_to(self._root / "data")
        return Place(root, root / "job.yaml", self._packages)


def print_row(values: tuple[object, ...]) -> None:
    print("".join(f"{value!s:<10}" for value in values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
