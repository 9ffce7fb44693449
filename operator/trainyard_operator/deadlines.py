"""When time alone changes something: deadlines, back-off, expiry. All from the scene, no clock."""

from datetime import datetime, timedelta

from trainyard_operator import headway, story
from trainyard_operator.contract import USER_CAUSES, Cause
from trainyard_operator.observed import NODE_TAINTED, PodRecord, parse_time
from trainyard_operator.scene import Scene
from trainyard_operator.verdict import Problem

ABANDONED = timedelta(seconds=10)
"""A pod still there this long after its grace period lies on a lost node: it is forced out."""
RETRY = timedelta(seconds=15)
"""How soon something that the API server did not do is asked for again."""

_AT_ONCE = frozenset({Cause.EVICTED, Cause.PREEMPTED, Cause.NODE_LOST, Cause.POD_DELETED})
"""Somebody else ended the attempt: no reason to wait, however often that happens."""
_DOUBLINGS = 20
"""More would overflow; every back-off has reached its bound by then."""


def earliest(*times: datetime | None) -> datetime | None:
    """The first of the times that are set."""
    return min((time for time in times if time), default=None)


def forced_at(pods: tuple[PodRecord, ...], now: datetime) -> datetime | None:
    """When the next of the pods that are being deleted has to be forced, or forced again."""
    times = [time for pod in pods if (time := abandoned_at(pod))]
    return earliest(*(time if time > now else now + RETRY for time in times))


def abandoned_at(pod: PodRecord) -> datetime | None:
    """From when a pod that is being deleted is forced out; None: it is not being deleted.

    No grace period is spent on one whose node cannot hear of it, or that never ran there.
    """
    if pod.deadline is None:
        return None
    never_ran = pod.phase == "Pending" and pod.disruption == NODE_TAINTED
    return pod.created if pod.is_lost or never_ran else pod.deadline + ABANDONED


def job_deadline(scene: Scene) -> datetime | None:
    """When runPolicy.activeDeadlineSeconds ends the job."""
    seconds = scene.job.spec.run_policy.active_deadline_seconds
    start = parse_time(scene.status.start_time)
    return start + timedelta(seconds=seconds) if seconds and start else None


def startup_deadline(scene: Scene, problem: Problem | None) -> datetime | None:
    """Counts from when every pod had a node: waiting for a place in a busy cluster is no fault."""
    begun = parse_time(scene.status.attempt_time)
    if begun is None or _waits_for_a_place(scene, problem):
        return None
    start = max([begun, *(pod.scheduled for pod in scene.pods if pod.scheduled)])
    return start + timedelta(seconds=scene.job.spec.run_policy.startup_deadline_seconds)


def expiry(scene: Scene) -> datetime | None:
    """When runPolicy.ttlSecondsAfterFinished deletes the job."""
    seconds = scene.job.spec.run_policy.ttl_seconds_after_finished
    ended = parse_time(scene.status.completion_time)
    return ended + timedelta(seconds=seconds) if seconds is not None and ended else None


def backoff(scene: Scene, cause: Cause) -> timedelta:
    """The wait before the next attempt: it doubles with each failure, up to a bound, and is short
    again once an attempt has got further than those before it.

    After a gang that ran, a fault of the infrastructure waits for nothing the first time.
    """
    bounds, ran = scene.job.spec.run_policy.restart_backoff, scene.status.phase == "Running"
    if cause in USER_CAUSES:
        doublings = 0 if headway.has_moved(scene.status) else scene.status.restarts.user
    else:
        doublings = story.restarts_in_a_row(scene.status, cause) - ran
    if doublings < 0 or (ran and cause in _AT_ONCE):
        return timedelta(0)
    doubled = bounds.initial_seconds * 2 ** min(doublings, _DOUBLINGS)
    return timedelta(seconds=min(doubled, bounds.max_seconds))


def _waits_for_a_place(scene: Scene, problem: Problem | None) -> bool:
    if problem:
        return problem.cause is Cause.UNSCHEDULABLE
    return any(pod.node is None and not pod.running and not pod.has_ended for pod in scene.pods)
