"""A trial's TrainingJob, reduced to what a sweep's decisions need."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from trainyard_operator.contract import Cause
from trainyard_operator.status import FINISHED
from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.names import (
    HELD_ANNOTATION,
    HELD_BY_END,
    HELD_BY_STOPPING,
    HELD_REASON_ANNOTATION,
    REPORT_LABEL,
    SETTING_ANNOTATION,
    TRIAL_LABEL,
)
from trainyard_operator.sweep.status import TrialPhase
from trainyard_operator.sweep.trial import Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial as the cluster has it; ten thousand of them cost a few megabytes."""

    job: str
    uid: str
    number: int
    name: str
    overrides: dict[str, Any] = field(default_factory=dict)
    fold: int | None = None
    phase: str = ""
    is_suspended: bool = False
    """Whether its spec says so."""
    held_by: str = ""
    """Why the sweep suspended it; empty if it did not."""
    cause: str = ""
    """Of its failure."""
    message: str = ""
    """Why it failed, or why it cannot run, or why it was stopped."""
    is_refused: bool = False
    """Whether the operator cannot run it as written."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The newest it reported; only finite ones."""
    best: tuple[str, float] | None = None
    """Metric and value of its best checkpoint."""
    checkpoint: str | None = None
    """Where that lies."""
    curve: tuple[tuple[int, float], ...] = ()
    steps: int | None = None
    """Of the whole trial, as it foresees them."""
    pause_at: int | None = None
    """Its spec's checkpoint.pauseAtStep."""

    @property
    def has_ended(self) -> bool:
        """Whether it never runs again."""
        return self.phase in FINISHED

    @property
    def is_active(self) -> bool:
        """Whether it takes a place: it runs, will run, or still has pods."""
        is_held = self.is_suspended or self.is_paused
        return not self.has_ended and not (is_held and self.phase == "Suspended")

    @property
    def is_paused(self) -> bool:
        """Whether it came to rest by itself and nobody has held it there since."""
        at, curve = self.pause_at, self.curve
        is_there = at is not None and bool(curve) and curve[-1][0] >= at
        return is_there and self.phase == "Suspended" and not self.is_suspended

    @property
    def state(self) -> TrialState:
        """As searches know it; one that is suspended with the sweep counts as running."""
        if self.phase == "Succeeded":
            return "Succeeded"
        if self.phase == "Failed":
            return "Failed"
        return "Stopped" if self.held_by in {HELD_BY_STOPPING, HELD_BY_END} else "Running"

    @property
    def shown(self) -> TrialPhase:
        """As people see it."""
        if self.state != "Running":
            return self.state
        if self.is_suspended or self.phase == "Suspended":
            return "Suspended"
        return "Running" if self.phase in {"Running", "Restarting"} else "Pending"

    @property
    def is_misconfigured(self) -> bool:
        """Whether it failed, or waits, because it cannot run as written."""
        return self.is_refused or self.cause == Cause.CONFIGURATION

    def value(self, spec: SweepSpec) -> float | None:
        """The objective: of the best checkpoint if that was chosen by it, else the newest."""
        metric = spec.objective.metric
        if self.best and self.best[0] == metric:
            return self.best[1]
        return self.metrics.get(metric)

    def as_trial(self, spec: SweepSpec) -> Trial:
        """What searches, early stopping and reports read."""
        return Trial(
            number=self.number,
            name=self.name,
            overrides=self.overrides,
            fold=self.fold,
            state=self.state,
            value=self.value(spec),
            curve=self.curve,
            steps=self.steps,
            pause_at=self.pause_at,
            is_paused=self.is_paused,
        )


def trial_record(raw: dict[str, Any]) -> TrialRecord | None:
    """None for a job that is no trial; what somebody broke by hand counts as absent."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    number = (metadata.get("labels") or {}).get(TRIAL_LABEL, "")
    if not number.isdecimal():
        return None
    notes = metadata.get("annotations") or {}
    setting = _json_object(notes.get(SETTING_ANNOTATION))
    failure, accepted = status.get("failure") or {}, _condition(status, "Accepted")
    is_failed = status.get("phase") == "Failed"
    is_refused = accepted.get("status") == "False"
    why = failure.get("message") if is_failed else notes.get(HELD_REASON_ANNOTATION)
    progress = status.get("progress") or {}
    best = (status.get("checkpoints") or {}).get("best") or {}
    return TrialRecord(
        job=metadata["name"],
        uid=metadata["uid"],
        number=int(number),
        name=str(setting.get("name") or metadata["name"]),
        overrides=setting.get("overrides") or {},
        fold=setting.get("fold"),
        phase=status.get("phase") or "",
        is_suspended=bool((spec.get("runPolicy") or {}).get("suspend")),
        held_by=notes.get(HELD_ANNOTATION, ""),
        cause=failure.get("cause", "") if is_failed else "",
        message=str((accepted.get("message") if is_refused else why) or ""),
        is_refused=is_refused,
        metrics=_finite(progress.get("metrics") or {}),
        best=_best(best),
        checkpoint=best.get("uri"),
        curve=_curve(progress.get("curve") or ()),
        steps=progress.get("steps"),
        pause_at=(spec.get("checkpoint") or {}).get("pauseAtStep"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRecord:
    """The reporting job as the cluster has it."""

    job: str
    uid: str
    stamp: str
    """How many trials had ended; final once all had."""
    phase: str
    created: str


def report_record(raw: dict[str, Any]) -> ReportRecord | None:
    """None for a job that writes no report."""
    metadata = raw["metadata"]
    stamp = (metadata.get("labels") or {}).get(REPORT_LABEL)
    if not stamp:
        return None
    return ReportRecord(
        job=metadata["name"],
        uid=metadata["uid"],
        stamp=stamp,
        phase=(raw.get("status") or {}).get("phase") or "",
        created=metadata.get("creationTimestamp") or "",
    )


def _json_object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    return next((c for c in status.get("conditions") or () if c.get("type") == type_), {})


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _finite(metrics: dict[str, Any]) -> dict[str, float]:
    found = {name: _number(text) for name, text in metrics.items()}
    return {name: value for name, value in found.items() if value is not None}


def _best(saved: dict[str, Any]) -> tuple[str, float] | None:
    value = _number(saved.get("value"))
    return (saved["metric"], value) if saved.get("metric") and value is not None else None


def _curve(points: Any) -> tuple[tuple[int, float], ...]:
    """Points as [step, value]."""
    found = [(int(p[0]), v) for p in points if (v := _number(p[1])) is not None]
    return tuple(sorted(found))
