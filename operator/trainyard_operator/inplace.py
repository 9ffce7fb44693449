"""Restarts in place: when another attempt may begin in the pods of the one that failed, and how.

Pods keep the label of the attempt that they were created for; `status.podsAttempt` says which. A
launcher whose ranks failed waits a while for an order, and then ends as they did.
"""

from datetime import datetime, timedelta

from trainyard_operator import avoidance, headway, story
from trainyard_operator.contract import (
    HIGHEST_ATTEMPT,
    MASTER_PORT,
    STANDBY_SECONDS,
    USER_CAUSES,
    Cause,
    Order,
)
from trainyard_operator.decision import OrderAttempt
from trainyard_operator.desired import node_name
from trainyard_operator.observed import PodRecord, parse_time
from trainyard_operator.scene import Scene

PATIENCE = timedelta(seconds=STANDBY_SECONDS / 3)
"""How long launchers may take to agree to an order, before the gang gets new pods."""
MASTER_PORTS = 4096
"""How many rendezvous ports attempts in the same pods take in turn; below those that Linux gives
to clients."""

_CAUSES = USER_CAUSES | {Cause.PEER_LOST}
"""Processes failed, and the pods around them are well."""


def is_possible(scene: Scene, cause: Cause) -> bool:
    """Whether the attempt that failed may be followed by one in the same pods.

    Not twice for nothing: an attempt that began in place and took no new step, or that lost a peer
    as the one before it did, is followed by new pods. So is one on a node that is to be avoided.
    """
    if scene.job.spec.recipe is None or cause not in _CAUSES or not _is_whole(scene):
        return False
    if avoidance.must_move(scene):
        return False
    if cause not in USER_CAUSES and story.restarts_in_a_row(scene.status, cause):
        return False
    return not scene.is_in_place or headway.has_moved(scene.status)


def orders(scene: Scene) -> tuple[OrderAttempt, ...]:
    """For each launcher that is not known to work on an attempt that began in place."""
    if not scene.is_in_place:
        return ()
    return tuple(
        _order(scene, pod) for pod in scene.pods if _is_well(pod) and not _agreed(scene, pod)
    )


def have_all_agreed(scene: Scene) -> bool:
    """Whether every pod is well and its launcher works on the newest attempt."""
    return _is_whole(scene) and all(_agreed(scene, pod) for pod in scene.pods)


def first_unfit(scene: Scene) -> str | None:
    """Name of a node that can begin no attempt in place any more; None while all can."""
    fit = {pod.name for pod in scene.pods if _is_well(pod)}
    names = (node_name(scene.job.metadata.name, i) for i in range(scene.job.spec.nodes))
    return next((name for name in names if name not in fit), None)


def first_late(scene: Scene) -> str | None:
    """Name of a pod that has had long enough to agree; None while there is none."""
    due = agreed_by(scene)
    if due is None or scene.now < due:
        return None
    return next((pod.name for pod in scene.pods if not _agreed(scene, pod)), None)


def agreed_by(scene: Scene) -> datetime | None:
    """Until when launchers may take to agree."""
    begun = parse_time(scene.status.attempt_time)
    return begun + PATIENCE if begun else None


def newest_attempt(scene: Scene) -> int:
    """The highest number that any pod, launcher or rank is known to have worked under."""
    pods, report = scene.observed.pods, scene.observed.report
    numbers = [pod.attempt for pod in pods]
    numbers += [pod.standby.attempt for pod in pods if pod.standby]
    if pods and report and scene.job.spec.recipe:
        numbers.append(report.attempt)
    return max((number for number in numbers if number <= HIGHEST_ATTEMPT), default=0)


def _order(scene: Scene, pod: PodRecord) -> OrderAttempt:
    attempt = scene.status.attempt
    port = MASTER_PORT + (attempt - scene.pods_attempt) % MASTER_PORTS
    return OrderAttempt(
        name=pod.name,
        uid=pod.uid,
        address=pod.ip or "",
        order=Order(token=pod.order_token, attempt=attempt, master_port=port),
    )


def _is_whole(scene: Scene) -> bool:
    return not scene.strays and first_unfit(scene) is None


def _is_well(pod: PodRecord) -> bool:
    # The pods of a silent node are evicted 30 seconds later: an order would only be waited for.
    can_be_told = bool(pod.order_token and pod.ip) and not pod.silent
    is_leaving = pod.is_deleting or pod.has_ended or bool(pod.disruption)
    return pod.running and can_be_told and not is_leaving


def _agreed(scene: Scene, pod: PodRecord) -> bool:
    """A launcher that stands by for the newest attempt has begun it."""
    return pod.taken >= scene.status.attempt or pod.standby is not None
