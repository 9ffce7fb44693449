"""What came out, kept in a file, as lines and as a page."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos.nodes.faults import Fault
from chaos.nodes.trial import Blow, Trial

HEAD = """\
# Faults on the two-node cluster

`make chaos-cluster` does each of these to a job of two ranks on two nodes while it trains. Seconds
count from the fault until a step is reported that was trained after it; rank 0 reports twice a
second. Repeated are steps that had been trained and had to be trained again. Equal: the last
checkpoint of each job is equal to the bit, for each rank, to that of a job that was left alone, as
are `metrics.csv` and `result.json`; no attempt began before a checkpoint that the status named; and
the history gives no other cause than the fault's.

"""
COLUMNS = ("fault", "times", "median s", "worst s", "repeated steps", "equal")


@dataclass
class Results:
    """All trials so far. `file` None: they are kept in memory alone."""

    file: Path | None
    calm: str = ""
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path | None) -> "Results":
        """What the file holds; nothing where there is none."""
        results = cls(file)
        if file and file.exists():
            raw: dict[str, Any] = json.loads(file.read_text())
            results.calm = raw["calm"]
            results.trials = [
                Trial(**each | {"blows": [Blow(**blow) for blow in each["blows"]]})
                for each in raw["trials"]
            ]
        return results

    def add(self, trial: Trial) -> None:
        """Keep one more."""
        self.trials.append(trial)
        self._write()

    def keep_calm(self, uri: str) -> None:
        """Where the run lies that was left alone."""
        self.calm = uri
        self._write()

    def is_any_different(self) -> bool:
        """Whether anything was lost or is not equal."""
        return any(trial.found for trial in self.trials)

    def blows_of(self, fault: str) -> list[Blow]:
        """All of one kind."""
        return [blow for trial in self.trials for blow in trial.blows if blow.fault == fault]

    def is_equal(self, fault: str) -> bool:
        """Whether every job that it struck ended as if nothing had happened."""
        return not any(t.found for t in self.trials if any(b.fault == fault for b in t.blows))

    def _write(self) -> None:
        if self.file:
            trials = [asdict(trial) for trial in self.trials]
            self.file.write_text(json.dumps({"calm": self.calm, "trials": trials}, indent=1) + "\n")


def row_of(results: Results, fault: str) -> str:
    """One row of the table."""
    blows = results.blows_of(fault)
    seconds = [blow.seconds for blow in blows]
    cells = (
        fault,
        len(blows),
        f"{statistics.median(seconds):.1f}",
        f"{max(seconds):.1f}",
        sum(blow.repeated for blow in blows),
        "yes" if results.is_equal(fault) else "no",
    )
    return f"| {' | '.join(map(str, cells))} |"


def rows(results: Results, faults: Mapping[str, Fault]) -> list[str]:
    """The table of what was tried, with its head."""
    head = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    return head + [row_of(results, name) for name in faults if results.blows_of(name)]


def build_page(results: Results, faults: Mapping[str, Fault], machine: str) -> str:
    """The page: the table, and what each fault is."""
    blows = sum(len(trial.blows) for trial in results.trials)
    told = f"{blows} faults in {len(results.trials)} jobs. {machine}"
    kinds = [
        f"- `{name}`: {' '.join((fault.strike.__doc__ or '').split())}"
        for name, fault in faults.items()
    ]
    parts = [told, "", *rows(results, faults), "", "## What each is", "", *kinds]
    if differing := [f"- {trial.job}: {line}" for trial in results.trials for line in trial.found]:
        parts += ["", "## What differs", "", *differing]
    return HEAD + "\n".join(parts) + "\n"
