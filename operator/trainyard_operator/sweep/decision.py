"""What a decision on a sweep asks for."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trainyard_operator.decision import Create, Event
from trainyard_operator.sweep.status import SweepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldTrial:
    """Suspend this very TrainingJob: it saves a checkpoint, and its pods go."""

    job: str
    uid: str
    held_by: str
    because: str

    @property
    def changes(self) -> dict[str, Any]:
        """Of the job's spec, as a merge patch."""
        return {"runPolicy": {"suspend": True}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTrial:
    """Let a TrainingJob that the sweep held, or that paused, go on from its checkpoint."""

    job: str
    uid: str
    pause_at: int | None = None
    """Where it is to pause next; None: as before."""

    @property
    def changes(self) -> dict[str, Any]:
        """Of the job's spec, as a merge patch."""
        paused = {} if self.pause_at is None else {"checkpoint": {"pauseAtStep": self.pause_at}}
        return {"runPolicy": {"suspend": False}, **paused}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteReport:
    """Delete this very TrainingJob, which wrote a report that is out of date."""

    job: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteSweep:
    """Delete the TrainingSweep itself; its trials follow, what lies in storage stays."""


SweepAction = Create | HoldTrial | ReleaseTrial | DeleteReport | DeleteSweep


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepDecision:
    """The outcome of one look at one sweep. What is news is written before anything is done."""

    status: SweepStatus
    actions: tuple[SweepAction, ...] = ()
    events: tuple[Event, ...] = ()
    wake_at: datetime | None = None
    """When time alone changes the outcome; None: only a change of the sweep or a trial does."""
