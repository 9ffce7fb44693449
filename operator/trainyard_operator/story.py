"""Every event, condition and history entry with its wording, in one place."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

from trainyard_operator import board
from trainyard_operator.api import Storage, TrainingJob
from trainyard_operator.contract import USER_CAUSES, Cause, now_text
from trainyard_operator.decision import Event
from trainyard_operator.overlay import forbidden_part, shape_problem
from trainyard_operator.pause import paused_at
from trainyard_operator.podenv import build_run_request
from trainyard_operator.status import (
    FINISHED,
    HISTORY_LENGTH,
    STORAGE_DEGRADED,
    Condition,
    FailureStatus,
    Headway,
    HistoryEntry,
    JobStatus,
    Restarts,
    build_condition,
    with_condition,
)
from trainyard_operator.verdict import Problem
from trainyard_operator.wording import cut, ended

RUN_LENGTH = 120_000
"""Characters of a run request; no kernel takes more than 131,072 bytes in one variable."""
SENTENCE_LENGTH = 2048
"""Characters of a line; a restart's says more than the failure before it."""


class Line(Enum):
    """What happened: (type of event, reason unless the teller has a better one)."""

    REFUSED = ("Warning", "NotAccepted")
    STARTING = ("Normal", "Starting")
    WAITING = ("Warning", "Waiting")
    RUNNING = ("Normal", "Running")
    RESTARTED = ("Warning", "Restarted")
    REPLACED = ("Warning", "Replaced")
    LAST_RESORT = ("Warning", "LastResort")
    STORAGE_DEGRADED = ("Warning", STORAGE_DEGRADED)
    STORAGE_RECOVERED = ("Normal", "StorageRecovered")
    WARNED = ("Warning", "TrainerWarning")
    EDITED = ("Normal", "Edited")
    NARROWED = ("Warning", "Narrowed")
    WIDENED = ("Normal", "Widened")
    SUSPENDED = ("Normal", "Suspended")
    SUCCEEDED = ("Normal", "Succeeded")
    FAILED = ("Warning", "Failed")

    @property
    def event_type(self) -> Literal["Normal", "Warning"]:
        """Normal or Warning."""
        return "Warning" if self.value[0] == "Warning" else "Normal"

    @property
    def reason(self) -> str:
        """One CamelCase word."""
        return self.value[1]


_ABOUT_RUNNING = frozenset(
    {
        Line.STARTING,
        Line.WAITING,
        Line.RUNNING,
        Line.RESTARTED,
        Line.REPLACED,
        Line.LAST_RESORT,
        Line.NARROWED,
        Line.WIDENED,
    }
)


@dataclass(frozen=True)
class Told:
    """One line of the story."""

    line: Line
    message: str
    reason: str = ""
    """A cause, where the line alone does not say why."""
    lost_steps: int | None = None
    attempt: int | None = None
    """The attempt that it is about, where that is not the newest."""


def refusal(job: TrainingJob, storage: Storage | None) -> str:
    """Why a spec that the API server took cannot run with this operator; empty if it can."""
    spec = job.spec
    template = spec.template or {}
    where = "spec.template"
    if problem := shape_problem(template, where) or forbidden_part(template, where):
        return problem
    if spec.recipe and len(build_run_request(spec).to_json()) > RUN_LENGTH:
        return (
            f"spec.config: config, overrides and checkpoint are longer than {RUN_LENGTH} "
            "characters; keep lists in a file of the dataset."
        )
    if spec.recipe and storage is None:
        return (
            "spec.storage: a recipe needs somewhere for its checkpoints; set storage.uri, such as "
            "s3://bucket/prefix."
        )
    return board.refusal(job, storage.uri if storage else None)


def rejected(create_error: str) -> Problem | None:
    """The API server's own words on an object that it did not take."""
    if not create_error:
        return None
    is_quota = "exceeded quota" in create_error
    return Problem(
        cause=Cause.UNSCHEDULABLE if is_quota else Cause.CONFIGURATION,
        message=ended(f"The API server refused a pod of this job: {create_error}"),
    )


def deadline_failure(job: TrainingJob, status: JobStatus) -> FailureStatus:
    """The job ran out of its own time."""
    seconds = job.spec.run_policy.active_deadline_seconds
    return FailureStatus(
        cause=Cause.DEADLINE,
        message=f"The job took longer than runPolicy.activeDeadlineSeconds ({seconds} s).",
        attempt=status.attempt,
    )


def startup_failure(job: TrainingJob, attempt: int, problem: Problem | None) -> FailureStatus:
    """The pods did not all run in time."""
    seconds = job.spec.run_policy.startup_deadline_seconds
    if problem is None:
        return FailureStatus(
            cause=Cause.STARTUP_DEADLINE,
            message=f"Not every pod ran within {seconds} s; raise "
            "runPolicy.startupDeadlineSeconds, or see kubectl describe pod.",
            attempt=attempt,
        )
    return FailureStatus(
        cause=problem.cause,
        message=f"{problem.message} Gave up after {seconds} s (runPolicy.startupDeadlineSeconds).",
        pod=problem.pod,
        attempt=attempt,
    )


def waiting(job: TrainingJob, problem: Problem) -> Told:
    """What keeps an attempt from starting, and for how long that is put up with."""
    message, seconds = problem.message, job.spec.run_policy.startup_deadline_seconds
    if problem.cause is Cause.IMAGE_PULL:
        message = f"{message.rstrip('.')}; retrying for {seconds} s."
    return Told(Line.WAITING, message, reason=problem.cause)


def restart_sentence(
    failure: FailureStatus, restarts: Restarts, max_restarts: int, *, in_place: bool = False
) -> str:
    """Who failed, what is done about it, and what that costs of the budget."""
    if failure.cause in USER_CAUSES:
        restart = "Restarted in place; restart" if in_place else "Restart"
        return f"{failure.message} {restart} {restarts.user} of {max_restarts}."
    restart = "Restarted in place, free" if in_place else "Free restart"
    return f"{failure.message} {restart}; {restarts.user} of {max_restarts} used."


def replaced(pod: str, *, is_late: bool, is_silent: bool) -> Told:
    """An attempt that could not begin in place. is_silent: the pod's node does not answer."""
    what = "did not answer the order to restart in place" if is_late else "is not there any more"
    if is_silent:
        what = "is on a node that does not answer"
    return Told(Line.REPLACED, f"Pod {pod} {what}; going on with new pods.")


def narrowed(nodes: int, status: JobStatus) -> Told:
    """An attempt found no room for all of its pods."""
    fewer = status.elastic.nodes if status.elastic else nodes
    message = f"No room for all of {_count(nodes, 'node')}; going on with {fewer} (spec.elastic)."
    return Told(Line.NARROWED, message)


def widened(nodes: int) -> Told:
    """A gang that does with fewer nodes is stopped, to see whether there is room for all."""
    return Told(Line.WIDENED, f"Trying {_count(nodes, 'node')} again, from a new checkpoint.")


def edited(job: TrainingJob, status: JobStatus) -> Told:
    """A gang that runs is replaced; what a recipe has trained is saved before that."""
    is_saved = bool(job.spec.recipe and status.progress and status.progress.step)
    if status.checkpoints.latest or is_saved:
        what = "going on with new pods from the last checkpoint"
    else:
        what = "starting again with new pods"
    return Told(Line.EDITED, f"The spec was edited; {what}.")


def last_sentence(failure: FailureStatus, max_restarts: int) -> str:
    """Who failed when no restart was left."""
    return f"{failure.message} No restart left of {max_restarts} (runPolicy.maxRestarts)."


def idle_sentence(failure: FailureStatus, headway: Headway) -> str:
    """Who failed when restarts had long brought nothing new."""
    return (
        f"{failure.message} {headway.idle_restarts} restarts in a row brought no step beyond "
        f"{headway.step}; mend the cause, then create the job anew."
    )


def restarts_in_a_row(status: JobStatus, cause: Cause) -> int:
    """How many of the newest restarts had this cause, without another one between them."""
    restarts = [entry for entry in status.history if entry.type == Line.RESTARTED.reason]
    others = [index for index, entry in enumerate(restarts) if entry.reason != cause]
    return len(restarts) - (others[-1] + 1 if others else 0)


def success_sentence(status: JobStatus) -> str:
    """What came out."""
    best = status.checkpoints.best
    attempts = f" in {status.attempt} attempts" if status.attempt > 1 else ""
    if best and best.metric:
        return f"Done{attempts}; best {best.metric} {best.value} at step {best.step}."
    return f"Done{attempts}."


def reason_of(status: JobStatus) -> str:
    """One word on why the job is in its phase."""
    by_phase = {"Failed": "Failed", "Pending": "Accepted", "Suspended": "Suspended"}
    condition = status.condition(by_phase.get(status.phase or "", "Running"))
    return condition.reason if condition else ""


def tell(
    job: TrainingJob, status: JobStatus, told: Told | None, now: datetime
) -> tuple[JobStatus, tuple[Event, ...]]:
    """The status with its conditions and, if something happened, the story's next line."""
    message = cut(_wording(job, status, told), SENTENCE_LENGTH) if told else ""
    conditions = status.conditions
    for condition in _conditions(job, status, told, message, now):
        conditions = with_condition(conditions, condition)
    told_status = status.model_copy(update={"conditions": conditions})
    if told is None or not _is_news(status, conditions, told):
        return told_status, ()
    told_status, event = written(told_status, told, message, now)
    return told_status, (event,)


def written(status: JobStatus, told: Told, message: str, now: datetime) -> tuple[JobStatus, Event]:
    """The status with one more line of history, and the event that says the same."""
    reason = str(told.reason or told.line.reason)
    entry = HistoryEntry(
        time=now_text(now),
        attempt=told.attempt or status.attempt,
        type=told.line.reason,
        reason=reason,
        message=message,
        step=status.progress.step if status.progress else None,
        lost_steps=told.lost_steps,
    )
    history = [*status.history, entry][-HISTORY_LENGTH:]
    event = Event(type=told.line.event_type, reason=reason, message=message)
    return status.model_copy(update={"history": history}), event


def _is_news(status: JobStatus, conditions: list[Condition], told: Told) -> bool:
    """A line that may be told on every pass is news only when its condition changed."""
    if told.line not in {Line.WAITING, Line.REFUSED}:
        return True
    type_ = "Running" if told.line is Line.WAITING else "Accepted"
    before = status.condition(type_)
    after = next(c for c in conditions if c.type == type_)
    if before is None or (before.status, before.reason) != (after.status, after.reason):
        return True
    return told.line is Line.REFUSED and before.message != after.message


def _wording(job: TrainingJob, status: JobStatus, told: Told) -> str:
    nodes, ranks = job.spec.nodes, job.spec.nodes * job.spec.ranks_per_node
    gang = f"{_count(nodes, 'node')}, {_count(ranks, 'rank')}"
    latest = status.checkpoints.latest
    # What it really goes on from is for its ranks to find out: they verify checkpoints.
    origin = f", last saved at step {latest.step}" if latest else ""
    if told.line is Line.STARTING:
        return f"Starting attempt {status.attempt}{origin}: {gang}."
    if told.line is Line.RUNNING:
        where = " in the same pods" if status.pods_attempt else ""
        return f"Attempt {status.attempt} runs{where}: {gang}."
    if told.line is Line.SUSPENDED and not job.spec.run_policy.suspend:
        step = paused_at(job, status)
        return f"Paused at step {step}; raise checkpoint.pauseAtStep, or unset it, to go on."
    if told.line is Line.SUSPENDED:
        return "Suspended; set runPolicy.suspend to false to go on from the last checkpoint."
    return told.message


def _conditions(
    job: TrainingJob, status: JobStatus, told: Told | None, message: str, now: datetime
) -> list[Condition]:
    """Every condition that this pass can judge; what nothing was told about keeps its words."""
    phase = status.phase or "Pending"
    line = told.line if told else None

    def judge(type_: str, holds: bool, reason: str, *, is_told: bool) -> Condition:
        before = status.condition(type_)
        generation = job.metadata.generation
        is_same = before is not None and (before.status == "True") == holds
        if before and is_same and not is_told and not (type_ == "Running" and is_stale(before)):
            return before.model_copy(update={"observed_generation": generation})
        if told and is_told:
            reason = told.reason or told.line.reason
        text = message if is_told else ""
        return build_condition(type_, holds, reason, text, generation=generation, now=now)

    def is_stale(running: Condition) -> bool:
        """Pods that waited do so no more, or nobody wants any."""
        return phase not in {"Restarting", running.reason}

    refused = line is Line.REFUSED
    result = [
        judge("Accepted", not refused, "Valid", is_told=refused),
        judge("Suspended", phase == "Suspended", "Active", is_told=line is Line.SUSPENDED),
        judge("Running", phase == "Running", phase, is_told=line in _ABOUT_RUNNING),
    ]
    for end in sorted(FINISHED):
        if phase == end or status.condition(end):
            result.append(judge(end, phase == end, "Edited", is_told=phase == end))
    return result


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
