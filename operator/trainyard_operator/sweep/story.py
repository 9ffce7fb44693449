"""Every event and condition of a sweep with its wording, in one place."""

from dataclasses import dataclass
from typing import Literal, Self

from trainyard_operator.decision import Event
from trainyard_operator.status import Condition, build_condition, with_condition
from trainyard_operator.sweep.names import called, stopped_early, trial_name, trials_text
from trainyard_operator.sweep.ranking import ranked
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.search import trials_in_all
from trainyard_operator.sweep.status import SWEEP_ENDS, SweepStatus
from trainyard_operator.wording import cut, ended, figure

End = Literal["Succeeded", "Failed"]
FAILURES_TOLD = 10
"""Failed trials that have an event each; the status counts the others."""
SENTENCE_LENGTH = 2048


@dataclass(frozen=True, kw_only=True)
class Told:
    """One line of the story."""

    condition: str
    """Type of the condition that it is about."""
    reason: str
    message: str
    is_warning: bool = False

    @classmethod
    def refused(cls, message: str) -> Self:
        """No trial begins until the spec is edited."""
        return cls(condition="Accepted", reason="NotAccepted", message=message, is_warning=True)

    @classmethod
    def suspended(cls, resume_by: str) -> Self:
        """Nothing runs until it is wanted again."""
        message = f"Suspended; {resume_by} to go on."
        return cls(condition="Suspended", reason="Suspended", message=message)

    @classmethod
    def running(cls, message: str) -> Self:
        """Trials begin."""
        return cls(condition="Running", reason="Running", message=message)

    @classmethod
    def waiting(cls, error: str) -> Self:
        """A trial cannot be created; that is tried again."""
        message = cut(ended(f"The API server refused a trial: {error}"), SENTENCE_LENGTH)
        return cls(condition="Running", reason="Waiting", message=message, is_warning=True)

    @classmethod
    def succeeded(cls, message: str) -> Self:
        """Every trial has ended."""
        return cls(condition="Succeeded", reason="Succeeded", message=message)

    @classmethod
    def failed(cls, reason: str, message: str) -> Self:
        """The sweep ends without what it was for."""
        text = cut(message, SENTENCE_LENGTH)
        return cls(condition="Failed", reason=reason, message=text, is_warning=True)


def outlook(scene: SweepScene) -> str:
    """What is to come."""
    total, spec = trials_in_all(scene.sweep.spec, scene.trials), scene.sweep.spec
    return f"Running: {trials_text(total)} by {spec.method}, {spec.parallelism} at a time."


def outcome(scene: SweepScene) -> str:
    """What came out, in one sentence."""
    trials, objective = scene.trials, scene.sweep.spec.objective
    metric, of = objective.metric, len(trials)
    order = ranked(trials, objective.goal)
    good = sum(trial.state == "Succeeded" for trial in trials)
    failed = sum(trial.state == "Failed" for trial in trials)
    stopped = sum(trial.state == "Stopped" for trial in trials)
    parts = [f"{good} of {trials_text(of)} succeeded"]
    parts += [f"{failed} failed"] if failed else []
    parts += [stopped_early(stopped)] if stopped else []
    if not order:
        return f"Done: {', '.join(parts)}."
    best, value = order[0]
    named = called(trial_name(scene.sweep.metadata.name, best.number), best.name)
    return f"Done: {', '.join(parts)}; best {metric} {figure(value)} ({named})."


def tell(
    scene: SweepScene, before: SweepStatus, told: Told | None
) -> tuple[SweepStatus, tuple[Event, ...]]:
    """The status with its conditions, and an event for each thing that is new. before: the same
    status with the counts that were written last."""
    conditions = before.conditions
    for condition in _conditions(scene, told):
        conditions = with_condition(conditions, condition)
    events = [*_of_failures(scene, before)]
    if told and _is_news(before, told):
        type_: Literal["Normal", "Warning"] = "Warning" if told.is_warning else "Normal"
        events.append(Event(type=type_, reason=told.reason, message=told.message))
    reason = _reason_of(scene.status, conditions)
    display = scene.status.display.model_copy(update={"reason": reason})
    changes = {"conditions": conditions, "display": display}
    return scene.status.model_copy(update=changes), tuple(events)


def _is_news(before: SweepStatus, told: Told) -> bool:
    known = before.condition(told.condition)
    holds = "False" if told.condition == "Accepted" else "True"
    said = (holds, told.reason, told.message)
    return known is None or (known.status, known.reason, known.message) != said


def _of_failures(scene: SweepScene, before: SweepStatus) -> list[Event]:
    """Of the trials that failed since the counts were last written, as long as these are few."""
    failed = [r for r in sorted(scene.records, key=lambda r: r.number) if r.state == "Failed"]
    fresh = len(failed) - before.counts.failed
    if fresh <= 0 or before.counts.failed >= FAILURES_TOLD:
        return []
    known = {row.number for row in before.trials if row.phase == "Failed"}
    return [
        Event(
            type="Warning",
            reason="TrialFailed",
            message=f"Trial {r.job} failed: {ended(cut(r.message, 900))}",
        )
        for r in failed
        if r.number not in known
    ][:FAILURES_TOLD]


def _conditions(scene: SweepScene, told: Told | None) -> list[Condition]:
    """Every condition that this pass can judge; what nothing was told about keeps its words."""
    status, phase = scene.status, scene.status.phase or "Pending"

    def judge(type_: str, holds: bool, reason: str) -> Condition:
        before, generation = status.condition(type_), scene.sweep.metadata.generation
        is_told = told is not None and told.condition == type_
        if before and (before.status == "True") == holds and not is_told:
            return before.model_copy(update={"observed_generation": generation})
        words = (told.reason, told.message) if told and is_told else (reason, "")
        return build_condition(type_, holds, *words, generation=generation, now=scene.now)

    refused = told is not None and told.condition == "Accepted"
    # A sweep that has ended is not judged again.
    accepted = [] if phase in SWEEP_ENDS else [judge("Accepted", not refused, "Valid")]
    result = [
        *accepted,
        judge("Suspended", phase == "Suspended", "Active"),
        judge("Running", phase == "Running", phase),
    ]
    if phase in SWEEP_ENDS:
        result += [judge(end, phase == end, phase) for end in sorted(SWEEP_ENDS)]
    return result


def _reason_of(status: SweepStatus, conditions: list[Condition]) -> str:
    """One word on why the sweep is in its phase."""
    by_phase = {"Pending": "Accepted", "Suspended": "Suspended", "Failed": "Failed"}
    refused = [c for c in conditions if c.type == "Accepted" and c.status == "False"]
    type_ = by_phase.get(status.phase or "", "Running")
    found = refused or [c for c in conditions if c.type == type_]
    return found[0].reason if found else ""
