"""A sweep and its trials as its report has them, and how they get to whoever writes it.

The operator hands over a `SweepTable`: to a pod of the trainer's on a cluster, for it has no
credentials of storage itself, or to `trainyard run` on one machine.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trainyard_operator.sweep.ranking import Goal, ranked, succeeded
from trainyard_operator.sweep.status import TrialPhase

TABLE_ENV = "TRAINYARD_SWEEP_TABLE"
"""Variable that holds a `SweepTable` for `python -m trainyard_trainer.sweep_report`."""
TABLE_BYTES = 60_000
"""A pod's template takes no more; `SweepTable.fitting` leaves the worst trials out."""
TRIALS_PREFIX = "trials"
"""Below a sweep's own prefix: the storage of its trials."""
REPORT_PREFIX = "report"
CSV_FILE, MARKDOWN_FILE, PAGE_FILE = "trials.csv", "report.md", "report.html"


@dataclass(frozen=True, kw_only=True)
class ReportedTrial:
    """One trial as the report has it."""

    number: int
    name: str
    job: str
    uid: str = ""
    state: TrialPhase = "Running"
    overrides: dict[str, Any] = field(default_factory=dict)
    fold: int | None = None
    value: float | None = None
    """The objective."""
    message: str = ""
    """Why it failed or was stopped."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of result.json; empty where the trial left none."""
    curve: tuple[tuple[int, float], ...] = ()
    """(optimizer step, objective)."""


@dataclass(frozen=True, kw_only=True)
class SweepTable:
    """A sweep and its trials."""

    name: str
    namespace: str
    uid: str
    method: str
    metric: str
    goal: Goal
    folds: int | None = None
    """Of the data; None where trials were repeated with other seeds."""
    is_final: bool = False
    """Whether no trial is to come or to change."""
    left_out: int = 0
    """Trials that had no room in this table."""
    total: int | None = None
    """How many trials there are to be; None where nobody said."""
    trials: tuple[ReportedTrial, ...] = ()

    def to_text(self) -> str:
        """Short text that `from_text` reads; what the trials' own storage knows is left out."""
        found = asdict(self)
        for trial in found["trials"]:
            del trial["metrics"], trial["curve"]
        data = gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0)
        return base64.b64encode(data).decode()

    def fitting(self, size_bytes: int = TABLE_BYTES) -> "SweepTable":
        """The same, with as many trials as go into so much text: the best, then the newest."""
        table = self
        order = [t.number for t, _ in self.ranked]
        order += [t.number for t in reversed(self.trials) if t.number not in set(order)]
        while len(table.to_text()) > size_bytes:
            kept = set(order[: len(table.trials) * 3 // 4])
            left_out = len(self.trials) - len(kept)
            trials = tuple(trial for trial in self.trials if trial.number in kept)
            table = replace(self, trials=trials, left_out=left_out)
        return table

    @classmethod
    def from_text(cls, text: str) -> "SweepTable":
        """Raises ValueError."""
        try:
            found = json.loads(gzip.decompress(base64.b64decode(text)))
            trials = tuple(ReportedTrial(**trial) for trial in found.pop("trials"))
            return cls(**found, trials=trials)
        except (OSError, TypeError, KeyError, EOFError) as error:
            raise ValueError(f"not a sweep's table: {error}") from error

    @property
    def valued(self) -> list[tuple[ReportedTrial, float]]:
        """Trials that succeeded, with their objective, by number."""
        return succeeded(self.trials)

    @property
    def ranked(self) -> list[tuple[ReportedTrial, float]]:
        """All that have not failed, the best first."""
        return ranked(self.trials, self.goal)


def with_results(table: SweepTable, found: Mapping[int, Mapping[str, float]]) -> SweepTable:
    """The table with what the trials' result.json say, by number: there the objective is exact."""
    trials = []
    for trial in table.trials:
        metrics = dict(found.get(trial.number) or {})
        value = metrics.get(table.metric, trial.value)
        trials.append(replace(trial, metrics=metrics, value=value))
    return replace(table, trials=tuple(trials))
