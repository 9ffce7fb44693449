"""The trials of every sweep, kept as records beside the jobs, so that a look at one is cheap."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainyard_operator.reflector import Key
from trainyard_operator.sweep.names import SWEEP_KIND
from trainyard_operator.sweep.record import (
    ReportRecord,
    TrialRecord,
    report_record,
    trial_record,
)


class SweepKey(NamedTuple):
    """A sweep in the work queue, which holds jobs of the same name as well."""

    namespace: str
    name: str
    kind: str = SWEEP_KIND


@dataclass
class Trials:
    """By the uid of the sweep that owns them."""

    on_change: Callable[[SweepKey], None]
    """Called when a trial came, went, or changed in what decisions read."""
    by_sweep: dict[str, dict[Key, TrialRecord | ReportRecord]] = field(default_factory=dict)
    owners: dict[Key, tuple[str, SweepKey]] = field(default_factory=dict)
    """Of each trial: uid and key of its sweep."""

    def of(self, uid: str) -> tuple[TrialRecord, ...]:
        """The trials of one sweep."""
        found = self.by_sweep.get(uid, {}).values()
        return tuple(record for record in found if isinstance(record, TrialRecord))

    def report_of(self, uid: str) -> ReportRecord | None:
        """The job that writes its report."""
        found = self.by_sweep.get(uid, {}).values()
        return next((record for record in found if isinstance(record, ReportRecord)), None)

    def take(self, key: Key, job: dict[str, Any] | None) -> None:
        """A job changed; None: it is gone."""
        owner = sweep_of(job) if job else None
        record = (trial_record(job) or report_record(job)) if job and owner else None
        before = self.owners.get(key)
        if before and (record is None or owner is None or owner[0] != before[0]):
            self._drop(key, *before)
        if record is None or owner is None:
            return
        uid, sweep = self.owners[key] = owner
        trials = self.by_sweep.setdefault(uid, {})
        if trials.get(key) != record:
            trials[key] = record
            self.on_change(sweep)

    def _drop(self, key: Key, uid: str, sweep: SweepKey) -> None:
        del self.owners[key]
        trials = self.by_sweep[uid]
        del trials[key]
        if not trials:
            del self.by_sweep[uid]
        self.on_change(sweep)


def sweep_of(job: dict[str, Any]) -> tuple[str, SweepKey] | None:
    """Uid and key of the sweep that owns a job."""
    metadata = job["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner["kind"] == SWEEP_KIND:
            return owner["uid"], SweepKey(metadata["namespace"], owner["name"])
    return None
