"""Nodes that broke two attempts of a job: which they are, and how later pods keep off them.

Evidence is counted in `status.nodeFaults`, so that it outlives the operator. Pods insist on other
nodes at first. Where that leaves them without a place, they come to prefer other nodes: a job must
not wait for ever for a node that the cluster does not have.
"""

from datetime import datetime, timedelta
from typing import Any

from trainyard_operator.contract import Cause
from trainyard_operator.observed import parse_time
from trainyard_operator.overlay import INSISTENCE, PREFERENCE, merge
from trainyard_operator.scene import Scene
from trainyard_operator.status import NODE_FAULTS, FailureStatus, JobStatus, NodeFault
from trainyard_operator.verdict import Problem

ENOUGH = 2
"""Attempts that a node has to break before it is avoided."""
PATIENCE_SHARE = 10
"""Pods insist on other nodes for this part of runPolicy.startupDeadlineSeconds."""

_OF_THE_NODE = frozenset({Cause.USER_EXIT, Cause.STALLED, Cause.NODE_LOST, Cause.UNSCHEDULABLE})
"""What a bad node can bring about. Memory limits, evictions, deletions and storage are other
people's doing, and a peer that was lost does not say where."""
_KILLED = frozenset({137, 143})
"""SIGKILL and SIGTERM: the kernel's answer to a lack of memory, or somebody's hand."""
_HEAVIEST = 100


def with_fault(status: JobStatus, failure: FailureStatus) -> list[NodeFault]:
    """The evidence with one more attempt that a node broke, the newest last."""
    if not failure.node or not _is_of_the_node(failure):
        return status.node_faults
    known = {fault.node: fault for fault in status.node_faults}
    before = known.pop(failure.node, None)
    count = before.attempts + 1 if before else 1
    fault = NodeFault(node=failure.node, attempts=count, last_attempt=failure.attempt)
    return [*known.values(), fault][-NODE_FAULTS:]


def avoided(scene: Scene) -> list[str]:
    """Names of the nodes that new pods keep off."""
    if scene.defaults.has_one_node or not scene.job.spec.scheduling.avoid_failed_nodes:
        return []
    faults = scene.status.node_faults
    return sorted(fault.node for fault in faults if fault.attempts >= ENOUGH)


def is_insisting(scene: Scene) -> bool:
    """Whether new pods rather wait than run on a node that is avoided."""
    return bool(avoided(scene)) and scene.status.avoidance != "Preferred"


def must_move(scene: Scene) -> bool:
    """Whether a pod of the gang runs on a node that is avoided, and another one is insisted on."""
    nodes = avoided(scene) if is_insisting(scene) else []
    return any(pod.node in nodes for pod in scene.pods)


def gives_way_at(scene: Scene, problem: Problem | None) -> datetime | None:
    """When pods that find no place stop insisting on other nodes; None: they have no cause to."""
    begun = parse_time(scene.status.attempt_time)
    is_homeless = problem and problem.cause is Cause.UNSCHEDULABLE and problem.pod
    if not begun or not is_homeless or not is_insisting(scene):
        return None
    if any(pod.is_gated for pod in scene.pods):
        return None
    seconds = scene.job.spec.run_policy.startup_deadline_seconds / PATIENCE_SHARE
    return begun + timedelta(seconds=seconds)


def news(before: JobStatus, scene: Scene) -> str:
    """A sentence on the node that is avoided from now on; empty if none is."""
    known = {fault.node for fault in before.node_faults if fault.attempts >= ENOUGH}
    new = [node for node in avoided(scene) if node not in known]
    return f" Node {new[0]} broke {ENOUGH} attempts and is avoided from now on." if new else ""


def given_up(scene: Scene, problem: Problem) -> str:
    """Why pods do not insist any more."""
    nodes = ", ".join(avoided(scene))
    return f"{problem.message} From now on nodes that broke attempts ({nodes}) are a last resort."


def build_distant(pod: dict[str, Any], scene: Scene) -> dict[str, Any]:
    """The pod, kept off the nodes that are avoided; one that names its node stays as it is."""
    nodes = avoided(scene)
    if not nodes or pod["spec"].get("nodeName"):
        return pod
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in nodes]
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    change = _insist(affinity, fields) if is_insisting(scene) else _prefer(affinity, fields)
    return merge(pod, {"spec": {"affinity": {"nodeAffinity": change}}})


def _insist(affinity: dict[str, Any], fields: list[dict[str, Any]]) -> dict[str, Any]:
    """Terms are alternatives, so each of them has to exclude the nodes; an empty one matches
    nothing and stays empty."""
    terms = (affinity.get(INSISTENCE) or {}).get("nodeSelectorTerms") or [{"matchFields": []}]
    kept_off = [
        {**term, "matchFields": [*(term.get("matchFields") or ()), *fields]} if term else term
        for term in terms
    ]
    return {INSISTENCE: {"nodeSelectorTerms": kept_off}}


def _prefer(affinity: dict[str, Any], fields: list[dict[str, Any]]) -> dict[str, Any]:
    wish = {"weight": _HEAVIEST, "preference": {"matchFields": fields}}
    return {PREFERENCE: [*(affinity.get(PREFERENCE) or ()), wish]}


def _is_of_the_node(failure: FailureStatus) -> bool:
    was_killed = failure.cause == Cause.USER_EXIT and failure.exit_code in _KILLED
    return failure.cause in _OF_THE_NODE and not was_killed
