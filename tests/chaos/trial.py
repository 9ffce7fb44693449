"""A run that is left alone beside one under attack: the same job, on the same kind of storage."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos import attack, compare, job
from chaos.attack import Outcome, Place
from chaos.depot import Depot
from chaos.schedule import Kill


@dataclass(frozen=True)
class Case:
    """What is attacked."""

    model: str
    seed: int
    """Of the training, and of the attack."""
    nodes: int
    """Two ranks: on two nodes, or on one. Where only ranks die, they are restarted in place, and
    resume from the node's memory; with a launcher, its node's memory goes, as with a pod."""
    storage: str
    """Kind of depot."""

    @property
    def layout(self) -> str:
        """Nodes and the ranks on each."""
        return f"{self.nodes}x{attack.RANKS // self.nodes}"


@dataclass
class Verdict:
    """What became of a run under attack."""

    outcome: Outcome
    attempts: int
    in_place: int
    """Attempts that began in the pods of the one before."""
    found: list[str]
    """What differs from the run that was left alone."""


class Court:
    """Runs jobs in folders below `root`."""

    def __init__(self, root: Path, depots: Mapping[str, Depot]) -> None:
        self._root, self._depots = root, depots
        job.write_data(root / "data")
        self._packages = job.install_recipes(root / "packages")

    def judge(self, case: Case, kills: list[Kill]) -> Verdict:
        """Both runs, and what differs."""
        depot = self._depots[case.storage]
        stores, outcome = [], Outcome()
        for name, blows in (("calm", []), ("attacked", kills)):
            place = self._place(f"{case.model}-{case.seed}-{name}", case.nodes)
            spec = depot.spec(place.root)
            job.write_job(place.job_file, case.model, case.seed, case.nodes, spec)
            outcome = attack.run(place, blows, depot.wire(place.root))
            stores.append(depot.open(place.root).child(place.prefix))
        status = place.job_object["status"]
        found = compare.differences(stores[0], stores[1], attack.RANKS)
        found += compare.account_differences(status, len(outcome.blows))
        in_place = place.output.read_text().count(" runs in the same pods")
        return Verdict(outcome, status["attempt"], in_place, found)

    def _place(self, name: str, nodes: int) -> Place:
        root = self._root / name
        root.mkdir()
        (root / "data").symlink_to(self._root / "data")
        return Place(root, root / "job.yaml", self._packages, nodes)
