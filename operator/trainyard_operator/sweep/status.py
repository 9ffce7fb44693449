"""The typed status of a TrainingSweep."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainyard_operator.api import Anything
from trainyard_operator.status import (
    Condition,
    Conditions,
    Moment,
    Sentence,
    StatusModel,
    find_condition,
    parse_as,
)

SweepPhase = Literal["Pending", "Running", "Suspended", "Succeeded", "Failed"]
SWEEP_ENDS: frozenset[SweepPhase] = frozenset({"Succeeded", "Failed"})
TRIALS_SHOWN = 64
"""Trials in the status, whatever their number: the best ones and the newest."""
TrialPhase = Literal["Pending", "Running", "Suspended", "Succeeded", "Failed", "Stopped"]


class TrialStatus(StatusModel):
    """One trial."""

    number: Annotated[int, Field(ge=0)]
    """From 0."""
    name: str
    """What it is called: the variant, the fold, or else the same as its job."""
    job: str
    """Its TrainingJob."""
    overrides: Anything | None = None
    """Dotted key of the configuration to its value; absent where that takes over 1024 letters."""
    fold: int | None = None
    """Its fold."""
    phase: TrialPhase
    """Pending until it trains; Suspended with the sweep, by hand or at a rung; Stopped early, or by
    the sweep's end, with its checkpoint kept."""
    value: float | None = None
    """Its objective; absent before it is known."""
    message: Sentence | None = None
    """Why it failed, cannot run as written, or was stopped."""


class BestTrial(StatusModel):
    """The trial that did best so far."""

    number: int
    """From 0."""
    name: str
    """What it is called."""
    job: str
    """Its TrainingJob."""
    value: float
    """Its objective."""
    overrides: Anything | None = None
    """Dotted key of the configuration to its value."""
    fold: int | None = None
    """Its fold."""
    checkpoint: str | None = None
    """Where its best checkpoint lies, if the objective chose it."""


class Summary(StatusModel):
    """The objective over all trials that succeeded, where they repeat one setting."""

    metric: str
    """The objective."""
    mean: float
    """Mean."""
    std: float | None = None
    """Standard deviation of the sample (n - 1); absent for a single trial."""
    trials: int
    """Of how many."""


class TrialCounts(StatusModel):
    """Trials by what became of them."""

    total: int | None = None
    """How many there will be, if that is known."""
    created: int = 0
    """How many there are."""
    running: int = 0
    """How many run, or wait for nodes."""
    succeeded: int = 0
    """How many ended well."""
    failed: int = 0
    """How many failed."""
    stopped: int = 0
    """How many were stopped early."""


class SweepDisplay(StatusModel):
    """What `kubectl get tsw` prints, ready to read."""

    trials: str = ""
    """Ended and all trials, such as 3/5."""
    best: str = ""
    """The best trial and its objective, such as 0.981 (digits-3)."""
    summary: str = ""
    """Mean and standard deviation, such as 0.97 ± 0.01."""
    reason: str = ""
    """Why it is in its phase, in one CamelCase word."""


class SweepStatus(StatusModel):
    """What became of the sweep; written by the operator alone."""

    phase: SweepPhase | None = None
    """Pending, Running, Suspended, Succeeded or Failed."""
    observed_generation: int | None = None
    """Generation of the spec that this status answers."""
    spec_hash: str | None = None
    """Of the fields that trials of one sweep must have in common."""
    start_time: Moment | None = None
    """When the first trial was created."""
    completion_time: Moment | None = None
    """When the sweep ended."""
    counts: TrialCounts = TrialCounts()
    """Trials by what became of them."""
    trials: Annotated[list[TrialStatus], Field(max_length=TRIALS_SHOWN)] = []
    """The best trials and the newest, by number; the report and the TrainingJobs have all."""
    best: BestTrial | None = None
    """The trial that did best so far."""
    summary: Summary | None = None
    """The objective over all trials that succeeded, where they repeat one setting, on folds or with
    seeds; the report has the mean of each of several settings."""
    report_uri: str | None = None
    """Where the report lies."""
    display: SweepDisplay = SweepDisplay()
    """What `kubectl get tsw` prints, ready to read."""
    conditions: Conditions = []
    """Accepted, Suspended, Running, Succeeded and Failed."""

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if it was ever set."""
        return find_condition(self.conditions, type_)


def parse_sweep_status(raw: dict[str, Any] | None) -> SweepStatus:
    """A sweep's status as stored."""
    return parse_as(SweepStatus, raw)
