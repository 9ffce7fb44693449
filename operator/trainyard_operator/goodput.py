"""What restarts cost a program that does not account for it itself, seen from outside.

A recipe's rank 0 knows better, and its report has the last word. From outside a gang that runs is
productive, but for its share of the steps that were lost; pauses to save are not seen.
"""

from datetime import datetime

from trainyard_operator.api import TrainingJob
from trainyard_operator.observed import parse_time
from trainyard_operator.status import Goodput, JobStatus, Progress


def with_goodput(
    job: TrainingJob, status: JobStatus, before: JobStatus, now: datetime, lost_steps: int | None
) -> JobStatus:
    """The status after a pass; its goodput changes when the gang comes to run, or ceases to.

    lost_steps: those of an attempt that has just failed; None where nothing is known.
    """
    known = status.goodput or Goodput()
    if job.spec.recipe or known.checkpoint_seconds is not None:
        return status
    ran, runs = _is_running(before), _is_running(status)
    if ran and not runs:
        known = _after_run(known, before, now, lost_steps or 0)
    elif runs and not ran and status.attempt > 1:
        pause = round((now - _stood_since(before, now)).total_seconds())
        known = known.model_copy(update={"restart_seconds": (known.restart_seconds or 0) + pause})
    else:
        return status
    return status.model_copy(update={"goodput": _with_ratio(known, status, now)})


def _after_run(known: Goodput, before: JobStatus, now: datetime, lost: int) -> Goodput:
    ran = max((now - (_since(before, "Running") or now)).total_seconds(), 0)
    progress = before.progress or Progress()
    taken = (progress.step or 0) - (progress.resumed_step or 0)
    kept = ran * (1 - min(lost / taken, 1)) if taken > 0 else ran
    return known.model_copy(
        update={
            "productive_seconds": (known.productive_seconds or 0) + round(kept),
            "lost_steps": (known.lost_steps or 0) + lost,
            "restart_seconds": known.restart_seconds or 0,
        }
    )


def _with_ratio(known: Goodput, status: JobStatus, now: datetime) -> Goodput:
    start = parse_time(status.start_time)
    seconds = (now - start).total_seconds() if start else 0
    if seconds <= 0 or known.productive_seconds is None:
        return known
    ratio = min(known.productive_seconds / seconds, 1)
    return known.model_copy(update={"ratio": f"{ratio:.2f}"})


def _is_running(status: JobStatus) -> bool:
    condition = status.condition("Running")
    return condition is not None and condition.status == "True"


def _since(status: JobStatus, type_: str) -> datetime | None:
    condition = status.condition(type_)
    return parse_time(condition.last_transition_time) if condition else None


def _stood_since(status: JobStatus, now: datetime) -> datetime:
    """When the gang ceased to run, or was resumed: a suspension is no cost of restarts."""
    times = [time for time in (_since(status, t) for t in ("Running", "Suspended")) if time]
    return min(max(times, default=now), now)
