"""A cluster of one sweep: trials as TrainingJobs that a test plays, operators that die."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from core_sweeps import make_sweep

from trainyard_operator.contract import now_text
from trainyard_operator.decision import Create, Event
from trainyard_operator.looker import merge_patch
from trainyard_operator.sweep.api import TrainingSweep
from trainyard_operator.sweep.decision import (
    DeleteReport,
    DeleteSweep,
    HoldTrial,
    ReleaseTrial,
    SweepAction,
    SweepDecision,
)
from trainyard_operator.sweep.names import HELD_ANNOTATION, HELD_REASON_ANNOTATION, TRIAL_LABEL
from trainyard_operator.sweep.plan import plan_sweep
from trainyard_operator.sweep.record import ReportRecord, TrialRecord, report_record, trial_record
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.status import SweepStatus, parse_sweep_status
from trainyard_operator.trials import sweep_of

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class SweepCluster:
    """Its API server, its trials, its clock."""

    sweep: TrainingSweep
    now: datetime = T0
    stored: dict[str, Any] = field(default_factory=dict)
    """The sweep's status, as JSON has it."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: tuple[TrialRecord, ...] = ()
    """What the operator last listed."""
    reporting: ReportRecord | None = None
    """What writes the report."""
    made: list[str] = field(default_factory=list)
    """Name of each trial, each time that one was created."""
    events: list[Event] = field(default_factory=list)
    is_deleted: bool = False
    uids: int = 0
    create_error: str = ""
    rival: str = ""

    @property
    def status(self) -> SweepStatus:
        return parse_sweep_status(json.loads(json.dumps(self.stored)))

    def refresh(self) -> None:
        """The operator lists the trials."""
        found = (trial_record(job) for job in self.jobs.values() if sweep_of(job))
        self.seen = tuple(record for record in found if record)
        reports = (report_record(job) for job in self.jobs.values())
        self.reporting = next((record for record in reports if record), None)

    def decide(self) -> SweepDecision:
        return plan_sweep(
            SweepScene(
                sweep=self.sweep,
                status=self.status,
                records=self.seen,
                now=self.now,
                create_error=self.create_error,
                rival=self.rival,
                report=self.reporting,
            )
        )

    def reconcile(self, actions: int | None = None) -> SweepDecision:
        """One pass of an operator, which dies after so many actions."""
        self.refresh()
        decision = self.decide()
        self.write(decision)
        for action in decision.actions[:actions]:
            self.carry_out(action)
        self.events += decision.events
        return decision

    def settle(self) -> None:
        """Passes until nothing changes."""
        for _ in range(100):
            before = json.dumps([self.stored, self.jobs])
            self.reconcile()
            if json.dumps([self.stored, self.jobs]) == before:
                return
        raise AssertionError("it never settles")

    def write(self, decision: SweepDecision) -> None:
        patch = merge_patch(self.stored, decision.status.to_dict())
        self.stored = _merged(self.stored, patch)

    def carry_out(self, action: SweepAction) -> None:
        if isinstance(action, Create):
            self._create(action.manifest)
        elif isinstance(action, DeleteSweep):
            self.is_deleted = True
            self.jobs.clear()
        elif isinstance(action, DeleteReport):
            self.jobs.pop(action.job, None)
        elif (job := self.jobs.get(action.job)) and job["metadata"]["uid"] == action.uid:
            _patch(job, action)

    def _create(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if name in self.jobs or self.is_deleted:
            return
        job = json.loads(json.dumps(manifest))
        self.uids += 1
        job["metadata"] |= {"uid": f"uid-{self.uids}", "creationTimestamp": now_text(self.now)}
        if TRIAL_LABEL in job["metadata"]["labels"]:
            self.made.append(name)
        self.jobs[name] = job

    # What trials do

    def active(self) -> list[str]:
        """Trials that take nodes."""
        ended = {"Succeeded", "Failed", "Suspended"}
        phases = {name: job.get("status", {}).get("phase") for name, job in self.jobs.items()}
        return [name for name in self.trials if phases[name] not in ended]

    @property
    def trials(self) -> list[str]:
        """By the order in which they were made."""
        found = self.jobs.items()
        return [name for name, job in found if TRIAL_LABEL in job["metadata"]["labels"]]

    def report(self, name: str, step: int, value: float, metric: str = "val_accuracy") -> None:
        """The trial runs, and its evaluation gave that."""
        status = self.jobs[name].setdefault("status", {})
        progress = status.setdefault("progress", {"metrics": {}, "curve": []})
        progress["metrics"][metric] = str(value)
        progress["curve"].append([step, value])
        status["phase"] = "Running"

    def pause(self, name: str, step: int, value: float) -> None:
        """The trial came to an evaluation at which it is to pause."""
        assert step >= self.jobs[name]["spec"]["checkpoint"]["pauseAtStep"]
        self.report(name, step, value)
        self.jobs[name]["status"]["phase"] = "Suspended"

    def succeed(self, name: str, value: float | None = None, metric: str = "val_accuracy") -> None:
        if value is not None:
            self.report(name, 100, value, metric)
        self.jobs[name].setdefault("status", {})["phase"] = "Succeeded"

    def fail(self, name: str, cause: str = "UserExit", message: str = "Rank 0 failed.") -> None:
        failure = {"cause": cause, "message": message}
        self.jobs[name].setdefault("status", {}).update(phase="Failed", failure=failure)

    def obey(self) -> None:
        """Jobs follow spec.runPolicy.suspend, and those that paused stay at rest."""
        for job in self.jobs.values():
            status = job.setdefault("status", {})
            is_suspended = job["spec"]["runPolicy"].get("suspend")
            if status.get("phase") in {"Succeeded", "Failed"}:
                continue
            if is_suspended:
                status["phase"] = "Suspended"
            elif status.get("phase") == "Suspended" and not _rests(job):
                status["phase"] = "Running"

    def edit(self, **fields: Any) -> None:
        """Merge fields, in the API's spelling, into the spec."""
        spec = self.sweep.spec.to_dict() | fields
        meta = self.sweep.metadata
        meta = meta.model_copy(update={"generation": meta.generation + 1})
        self.sweep = TrainingSweep.model_validate({"metadata": meta.model_dump(), "spec": spec})

    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)


def start(method: str = "folds", **fields: Any) -> SweepCluster:
    """After the first passes of the operator."""
    cluster = SweepCluster(make_sweep(method, **fields))
    cluster.settle()
    return cluster


def _rests(job: dict[str, Any]) -> bool:
    """Whether it is at its pause."""
    at = (job["spec"].get("checkpoint") or {}).get("pauseAtStep")
    curve = job["status"].get("progress", {}).get("curve")
    return at is not None and bool(curve) and curve[-1][0] >= at


def _patch(job: dict[str, Any], action: HoldTrial | ReleaseTrial) -> None:
    notes = job["metadata"]["annotations"]
    for key in (HELD_ANNOTATION, HELD_REASON_ANNOTATION):
        notes.pop(key, None)
    if isinstance(action, HoldTrial):
        notes |= {HELD_ANNOTATION: action.held_by, HELD_REASON_ANNOTATION: action.because}
    job["spec"] = _merged(job["spec"], action.changes)


def _merged(before: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    result = dict(before)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = _merged(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result
