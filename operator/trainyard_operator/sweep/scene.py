"""All that one decision on a sweep is made from."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from trainyard_operator.defaults import Defaults
from trainyard_operator.sweep.api import TrainingSweep
from trainyard_operator.sweep.record import ReportRecord, TrialRecord
from trainyard_operator.sweep.status import SweepStatus
from trainyard_operator.sweep.trial import Trial

_OF_RECORDS = ("trials", "active")
"""Cached properties of a scene that follow from its records alone."""


@dataclass(frozen=True, kw_only=True)
class SweepScene:
    """Nothing else is looked at."""

    sweep: TrainingSweep
    status: SweepStatus
    records: tuple[TrialRecord, ...]
    """Its trials as the cluster has them."""
    now: datetime
    defaults: Defaults = field(default_factory=Defaults)
    report: ReportRecord | None = None
    """The job that writes its report, if there is one."""
    reports_by_job: bool = True
    """Whether a job writes it; on one machine the runner itself does."""
    resume_by: str = "set runPolicy.suspend to false"
    """What a person does to have a suspended sweep go on."""
    create_error: str = ""
    """Why the API server last refused a trial."""
    rival: str = ""
    """The sweep in whose storage this one's lies."""

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """By number."""
        spec = self.sweep.spec
        return tuple(r.as_trial(spec) for r in sorted(self.records, key=lambda r: r.number))

    @cached_property
    def active(self) -> tuple[TrialRecord, ...]:
        """Trials that take a place."""
        return tuple(record for record in self.records if record.is_active)

    def update(self, **changes: Any) -> "SweepScene":
        """The same with another status; what follows from the records is not made anew."""
        updated = replace(self, status=self.status.model_copy(update=changes))
        known = {name: self.__dict__[name] for name in _OF_RECORDS if name in self.__dict__}
        updated.__dict__.update(known)
        return updated
