"""What came out, kept in a file, as lines and as a page."""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos.nodes.faults import Fault
from chaos.nodes.trial import Blow, Verdict

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
    """All verdicts so far. `file` None: they are kept in memory alone."""

    file: Path | None
    calm: str = ""
    verdicts: list[Verdict] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path | None) -> "Results":
        """What the file holds; nothing where there is none."""
        results = cls(file)
        if file and file.exists():
            raw: dict[str, Any] = json.loads(file.read_text())
            results.calm = raw["calm"]
            results.verdicts = [
                Verdict(**each | {"blows": [Blow(**blow) for blow in each["blows"]]})
                for each in raw["verdicts"]
            ]
        return results

    def add(self, verdict: Verdict) -> None:
        """Keep one more."""
        self.verdicts.append(verdict)
        self._write()

    def keep_calm(self, uri: str) -> None:
        """Where the run lies that was left alone."""
        self.calm = uri
        self._write()

    def is_any_different(self) -> bool:
        """Whether anything was lost or is not equal."""
        return any(verdict.found for verdict in self.verdicts)

    def of(self, fault: str) -> Verdict:
        """All blows of one kind."""
        whole = Verdict(fault)
        for verdict in self.verdicts:
            if verdict.fault == fault:
                whole.blows += verdict.blows
                whole.found += verdict.found
                whole.jobs += verdict.jobs
        return whole

    def _write(self) -> None:
        if self.file:
            verdicts = [asdict(verdict) for verdict in self.verdicts]
            text = json.dumps({"calm": self.calm, "verdicts": verdicts}, indent=1)
            self.file.write_text(text + "\n")


def row_of(verdict: Verdict) -> str:
    """One row of the table."""
    seconds = [blow.seconds for blow in verdict.blows] or [math.nan]
    cells = (
        verdict.fault,
        len(verdict.blows),
        f"{statistics.median(seconds):.1f}",
        f"{max(seconds):.1f}",
        sum(blow.repeated for blow in verdict.blows),
        "no" if verdict.found else "yes",
    )
    return f"| {' | '.join(map(str, cells))} |"


def build_page(results: Results, faults: Mapping[str, Fault], machine: str) -> str:
    """The page: the table, and what each fault is."""
    found = [results.of(name) for name in faults]
    rows = [row_of(verdict) for verdict in found if verdict.blows]
    times, jobs = sum(len(v.blows) for v in found), sum(v.jobs for v in found)
    told = f"{times} faults in {jobs} jobs. {machine}\n\n"
    head = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    kinds = [
        f"- `{name}`: {' '.join((fault.strike.__doc__ or '').split())}"
        for name, fault in faults.items()
    ]
    differing = [f"- {line}" for verdict in found for line in verdict.found]
    parts = [*head, *rows, "", "## What each is", "", *kinds]
    if differing:
        parts += ["", "## What differs", "", *differing]
    return HEAD + told + "\n".join(parts) + "\n"
