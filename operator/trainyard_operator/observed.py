"""What the operator sees of a job's pods, reduced to what decisions need."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainyard_operator.contract import (
    CONTAINER,
    HIGHEST_ATTEMPT,
    Annotation,
    Env,
    Label,
    Report,
    Standby,
    Summary,
)

NODE_TAINTED = "DeletionByTaintManager"
"""Reason of a pod's DisruptionTarget condition: its node has a taint that it does not tolerate."""
UNMET_GATES = "ReadinessGatesNotReady"
"""Reason of a pod's Ready condition: its kubelet waits for a gate of the pod's own template."""
_STANDBY = TypeAdapter(Standby)
_SUMMARY = TypeAdapter(Summary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a container does not run yet."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    """The termination message."""
    finished: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenStandby:
    """A launcher's Standby, checked, and when it was heard."""

    attempt: int
    """The attempt that ended."""
    summary: Summary
    """What would be its pod's last word."""
    since: datetime
    """When that was learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """One pod, slim: two thousand of these cost about a megabyte."""

    name: str
    uid: str
    attempt: int
    node_index: int
    phase: str
    """Pending, Running, Succeeded, Failed or Unknown."""
    created: datetime
    node: str | None = None
    ip: str | None = None
    running: bool = False
    """Whether the training container runs."""
    deadline: datetime | None = None
    """Set once the pod is being deleted: when its grace period ends."""
    waiting: Waiting | None = None
    terminated: Terminated | None = None
    reason: str = ""
    """Reason of the whole pod's failure, such as Evicted."""
    message: str = ""
    scheduled: datetime | None = None
    """When it was given a node."""
    unschedulable: str = ""
    """The scheduler's sentence, while no node fits."""
    disruption: str = ""
    """Reason of the DisruptionTarget condition, such as PreemptionByScheduler."""
    silent: bool = False
    """Whether its node stopped answering: the control plane calls the pod unready, the kubelet last
    called its container ready."""
    spec_hash: str = ""
    order_token: str = ""
    """What its launcher wants to see with an order; empty: it takes none."""
    standby: SeenStandby | None = None
    """What its launcher says while it stands by."""
    taken: int = 0
    """The newest attempt that its launcher is known to have been ordered to begin; an operator
    that has just started knows of none."""

    @property
    def is_deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.deadline is not None

    @property
    def is_lost(self) -> bool:
        """Whether Kubernetes gave it up with its node, which does not answer. A drained node does:
        its pods get their time for a checkpoint."""
        return self.silent and self.is_deleting and self.disruption == NODE_TAINTED

    @property
    def is_gated(self) -> bool:
        """Whether somebody, such as a queue, has yet to give the scheduler leave to place it."""
        return "scheduling gates" in self.unschedulable

    @property
    def is_finished(self) -> bool:
        """Whether all its containers have ended for good."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def has_ended(self) -> bool:
        """Whether the training container has ended; a sidecar may still run."""
        return self.is_finished or self.terminated is not None

    @property
    def has_succeeded(self) -> bool:
        """Whether the training container ended well."""
        return self.has_ended and not self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether the training container, or the whole pod, ended badly."""
        if self.is_finished:
            return self.phase == "Failed"
        return self.terminated is not None and self.terminated.exit_code != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PyTorchJobRecord:
    """The object that Kubeflow's operator makes the pods of an attempt for."""

    name: str
    uid: str
    is_deleting: bool = False
    has_ended: bool = False
    """Whether it succeeded or failed: it makes no pod any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything a decision on one job is made from, beside its own spec and status."""

    pods: tuple[PodRecord, ...] = ()
    report: Report | None = None
    """Rank 0's newest report, if one was collected."""
    create_error: str = ""
    """Why the API server refused an object of the last decision, in its own words."""
    pytorchjob: PyTorchJobRecord | None = None
    """With `backend: kubeflow`: the job's own, if there is one."""


def parse_time(text: str | None) -> datetime | None:
    """A Kubernetes timestamp; None stays None."""
    return datetime.fromisoformat(text) if text else None


def pod_record(pod: dict[str, Any]) -> PodRecord:
    """The record of a pod as the API server gives it. Raises KeyError or ValueError for a foreign
    pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata["labels"]
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    state = _container_state(status)
    created = parse_time(metadata["creationTimestamp"])
    assert created is not None  # noqa: S101  the API server always sets it
    return PodRecord(
        name=metadata["name"],
        uid=metadata["uid"],
        attempt=_number(labels[Label.ATTEMPT]),
        node_index=_node_index(labels),
        phase=status.get("phase", "Pending"),
        created=created,
        node=(pod.get("spec") or {}).get("nodeName"),
        ip=status.get("podIP"),
        running="running" in state,
        deadline=parse_time(metadata.get("deletionTimestamp")),
        waiting=_waiting(state),
        terminated=_terminated(state),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        scheduled=_scheduled(conditions.get("PodScheduled")),
        unschedulable=_unschedulable(conditions.get("PodScheduled")),
        disruption=_disruption(conditions.get("DisruptionTarget")),
        silent=_is_silent(conditions.get("Ready"), status),
        spec_hash=(metadata.get("annotations") or {}).get(Annotation.SPEC_HASH, ""),
        order_token=order_token(pod.get("spec") or {}),
    )


def _is_silent(condition: dict[str, Any] | None, status: dict[str, Any]) -> bool:
    containers = status.get("containerStatuses") or ()
    is_ready = any(c.get("ready") for c in containers if c["name"] == CONTAINER)
    if not is_ready or condition is None or condition.get("reason") == UNMET_GATES:
        return False
    return bool(condition["status"] == "False")


def pytorchjob_record(item: dict[str, Any], owner: str) -> PyTorchJobRecord | None:
    """The record of a PyTorchJob; None for one that the TrainingJob with this uid does not own."""
    metadata, status = item["metadata"], item.get("status") or {}
    if not any(each["uid"] == owner for each in metadata.get("ownerReferences") or ()):
        return None
    ended = {c["type"] for c in status.get("conditions") or () if c["status"] == "True"}
    return PyTorchJobRecord(
        name=metadata["name"],
        uid=metadata["uid"],
        is_deleting="deletionTimestamp" in metadata,
        has_ended=bool(ended & {"Succeeded", "Failed"}),
    )


def _node_index(labels: dict[str, str]) -> int:
    """Ours or, on a pod that Kubeflow made, what its labels say."""
    if Label.NODE_INDEX in labels:
        return int(labels[Label.NODE_INDEX])
    is_master = labels[Label.KUBEFLOW_REPLICA_TYPE] == "master"
    return 0 if is_master else int(labels[Label.KUBEFLOW_REPLICA_INDEX]) + 1


def _number(label: str) -> int:
    number = int(label)
    if not 0 <= number <= HIGHEST_ATTEMPT:
        raise ValueError(f"nobody gave a pod the number {label}")
    return number


def standing_by(standby: Standby, now: datetime) -> SeenStandby | None:
    """What a launcher said, checked; None where that is no account of a failure."""
    try:
        standby = _STANDBY.validate_python(standby)
        summary = _SUMMARY.validate_python(standby.summary)
    except ValidationError:
        return None
    return SeenStandby(attempt=standby.attempt, summary=summary, since=now)


def order_token(spec: dict[str, Any]) -> str:
    """What a pod was made with; empty where it takes no orders."""
    own = (c.get("env") or () for c in spec.get("containers") or () if c["name"] == CONTAINER)
    values = (
        entry.get("value") for env in own for entry in env if entry["name"] == Env.ORDER_TOKEN
    )
    return next(values, None) or ""


def _container_state(status: dict[str, Any]) -> dict[str, Any]:
    """The training container's state; before it starts, that of an init container in trouble."""
    containers = status.get("containerStatuses") or ()
    own = next((c.get("state") or {} for c in containers if c["name"] == CONTAINER), {})
    if "running" in own or "terminated" in own:
        return own
    states = (c.get("state") or {} for c in status.get("initContainerStatuses") or ())
    return next((state for state in states if _is_in_trouble(state)), own)


def _is_in_trouble(state: dict[str, Any]) -> bool:
    waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
    return bool(waiting.get("message") or terminated.get("exitCode"))


def _waiting(state: dict[str, Any]) -> Waiting | None:
    raw = state.get("waiting")
    return Waiting(reason=raw.get("reason", ""), message=raw.get("message", "")) if raw else None


def _terminated(state: dict[str, Any]) -> Terminated | None:
    raw = state.get("terminated")
    if not raw:
        return None
    return Terminated(
        exit_code=raw["exitCode"],
        reason=raw.get("reason", ""),
        message=raw.get("message", ""),
        finished=parse_time(raw.get("finishedAt")),
    )


def _scheduled(condition: dict[str, Any] | None) -> datetime | None:
    if condition and condition["status"] == "True":
        return parse_time(condition.get("lastTransitionTime"))
    return None


def _unschedulable(condition: dict[str, Any] | None) -> str:
    if condition is None or condition["status"] != "False":
        return ""
    if condition.get("reason") not in {"Unschedulable", "SchedulingGated"}:
        return ""
    return condition.get("message") or "the scheduler found no place."


def _disruption(condition: dict[str, Any] | None) -> str:
    if condition and condition["status"] == "True":
        return condition.get("reason", "")
    return ""
