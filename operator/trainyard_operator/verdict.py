"""Judging an attempt from its pods: who failed first and why, or what it waits for."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Cause, ExitCode, Summary
from trainyard_operator.desired import node_name
from trainyard_operator.observed import PodRecord
from trainyard_operator.status import FailureStatus

SETTLE = timedelta(seconds=3)
"""How long a lost peer's report waits for the one that names the culprit."""
LOG_TAIL_LINES = 5

_RANKING = (
    Cause.CONFIGURATION,
    Cause.OUT_OF_MEMORY,
    Cause.USER_EXIT,
    Cause.STALLED,
    Cause.EVICTED,
    Cause.PREEMPTED,
    Cause.NODE_LOST,
    Cause.POD_DELETED,
    Cause.STORAGE,
    Cause.CHECKPOINTED,
    Cause.PEER_LOST,
)
"""Of several failures of one attempt, the first of these is the culprit."""

_POD_REASONS = {
    "Evicted": Cause.EVICTED,
    "Preempting": Cause.PREEMPTED,
    "NodeLost": Cause.NODE_LOST,
    "NodeShutdown": Cause.NODE_LOST,
    "Terminated": Cause.NODE_LOST,
}
_DISRUPTIONS = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    "EvictionByEvictionAPI": Cause.EVICTED,
    "TerminationByKubelet": Cause.EVICTED,
    "DeletionByTaintManager": Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
}
_EXIT_CODES: dict[int, Cause] = {
    ExitCode.CHECKPOINTED: Cause.CHECKPOINTED,
    ExitCode.PEER_LOST: Cause.PEER_LOST,
    ExitCode.CONFIGURATION: Cause.CONFIGURATION,
}
_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an attempt does not start yet."""

    cause: Cause
    message: str


def summary_of(pod: PodRecord) -> Summary | None:
    """The trainer's own account of how the pod ended, if it left one."""
    if pod.terminated is None:
        return None
    try:
        return Summary.from_json(pod.terminated.message)
    except ValueError:
        return None


def first_failure(
    job: TrainingJob, attempt: int, pods: tuple[PodRecord, ...], *, formed: bool
) -> FailureStatus | None:
    """The culprit among the pods of one attempt; None while nothing has failed.

    A pod missing from an attempt that had `formed` was deleted by somebody.
    """
    failures = [_failure_of(pod, attempt) for pod in pods if _has_failed(pod)]
    if formed:
        present = {pod.name for pod in pods}
        names = [node_name(job.metadata.name, index) for index in range(job.spec.nodes)]
        failures += [_deleted(name, attempt) for name in names if name not in present]
    return min(failures, key=lambda f: _RANKING.index(Cause(f.cause)), default=None)


def settles_at(failure: FailureStatus, pods: tuple[PodRecord, ...]) -> datetime | None:
    """When to believe that only peers were lost; None: at once.

    The pods of a gang end within moments of each other, and the one to blame may report last.
    """
    ends = [p.terminated.finished for p in pods if p.terminated and p.terminated.finished]
    if failure.cause != Cause.PEER_LOST or not ends or all(pod.is_finished for pod in pods):
        return None
    return max(ends) + SETTLE


def is_success(pods: tuple[PodRecord, ...], nodes: int) -> bool:
    """Whether every pod ended well, or all ended and the first one stored the result."""
    if len(pods) == nodes and all(pod.phase == "Succeeded" for pod in pods):
        return True
    summaries = (summary_of(pod) for pod in pods if pod.node_index == 0)
    is_stored = any(summary is not None and summary.result for summary in summaries)
    return is_stored and all(pod.is_finished for pod in pods)


def problem(job: TrainingJob, pods: tuple[PodRecord, ...]) -> Problem | None:
    """What keeps the first troubled pod from running, in a sentence that says what to do."""
    for pod in pods:
        if pod.unschedulable:
            return Problem(
                cause=Cause.UNSCHEDULABLE,
                message=f"Pod {pod.name} waits for a node: {pod.unschedulable}",
            )
        if pod.waiting and pod.waiting.reason in _IMAGE_REASONS:
            return Problem(cause=Cause.IMAGE_PULL, message=_image_sentence(job, pod))
        if pod.waiting and pod.waiting.reason == "CreateContainerConfigError":
            return Problem(cause=Cause.CONFIGURATION, message=_reference_sentence(job, pod))
        if pod.waiting and pod.waiting.reason in {"CreateContainerError", "RunContainerError"}:
            return Problem(
                cause=Cause.CONFIGURATION,
                message=f"Pod {pod.name} cannot start: {pod.waiting.message}",
            )
    return None


def _has_failed(pod: PodRecord) -> bool:
    return pod.phase == "Failed" or (pod.terminated is not None and pod.terminated.exit_code != 0)


def _failure_of(pod: PodRecord, attempt: int) -> FailureStatus:
    summary = summary_of(pod)
    cause = _cause_of(pod, summary)
    exit_code = pod.terminated.exit_code if pod.terminated else None
    return FailureStatus(
        cause=cause,
        message=_sentence(pod, summary, cause),
        rank=summary.rank if summary else None,
        pod=pod.name,
        node=pod.node,
        exit_code=summary.exit_code if summary else exit_code,
        attempt=attempt,
        log_tail=summary.log_tail[-LOG_TAIL_LINES:] if summary else _tail(pod),
    )


def _cause_of(pod: PodRecord, summary: Summary | None) -> Cause:
    if pod.disruption in _DISRUPTIONS:
        return _DISRUPTIONS[pod.disruption]
    if pod.reason in _POD_REASONS:
        return _POD_REASONS[pod.reason]
    if pod.terminated is None:
        return Cause.POD_DELETED
    if pod.terminated.reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY
    if summary and summary.cause in _RANKING:
        return Cause(summary.cause)
    return _EXIT_CODES.get(pod.terminated.exit_code, Cause.USER_EXIT)


def _sentence(pod: PodRecord, summary: Summary | None, cause: Cause) -> str:
    where = f"pod {pod.name}, node {pod.node}" if pod.node else f"pod {pod.name}"
    if cause is Cause.CONFIGURATION and summary:
        return summary.message
    if cause is Cause.OUT_OF_MEMORY and not summary:
        return f"{_capital(where)} exceeded its memory limit; raise resources.limits.memory."
    if summary:
        return f"{_capital(summary.message.rstrip('.'))} ({where})."
    if cause in {Cause.EVICTED, Cause.PREEMPTED, Cause.NODE_LOST} or pod.terminated is None:
        detail = pod.message or pod.reason or pod.disruption or "it ended without a report"
        return f"{_capital(where)}: {detail.rstrip('.')}."
    tail = _tail(pod)
    last = f": {tail[-1]}" if tail else "."
    return f"{_capital(where)} exited with code {pod.terminated.exit_code}{last}"


def _deleted(name: str, attempt: int) -> FailureStatus:
    return FailureStatus(
        cause=Cause.POD_DELETED, message=f"Pod {name} was deleted.", pod=name, attempt=attempt
    )


def _tail(pod: PodRecord) -> list[str]:
    """The last log lines, which the kubelet leaves where a program wrote no message."""
    lines = pod.terminated.message.splitlines() if pod.terminated else []
    return [line.rstrip() for line in lines if line.strip()][-LOG_TAIL_LINES:]


def _image_sentence(job: TrainingJob, pod: PodRecord) -> str:
    image = f"'{job.spec.image}'" if job.spec.image else "the operator's trainer image"
    detail = f": {pod.waiting.message}" if pod.waiting and pod.waiting.message else ""
    seconds = job.spec.run_policy.startup_deadline_seconds
    return (
        f"Pod {pod.name} cannot pull {image}{detail.rstrip('.')}. "
        f"Correct spec.image; retrying for {seconds} s."
    )


def _reference_sentence(job: TrainingJob, pod: PodRecord) -> str:
    """A Secret or ConfigMap that a container's environment needs is absent."""
    detail = pod.waiting.message if pod.waiting else ""
    storage, namespace = job.spec.storage, job.metadata.namespace
    secret = storage.credentials_secret_ref if storage else None
    if secret and f'"{secret.name}" not found' in detail:
        return (
            f"spec.storage.credentialsSecretRef: no Secret '{secret.name}' in namespace "
            f"'{namespace}'; create it, or drop the field to use the pod's identity."
        )
    source = job.spec.config_from
    config_map = source.config_map_key_ref.name if source else None
    if config_map and f'"{config_map}" not found' in detail:
        return (
            f"spec.configFrom.configMapKeyRef: no ConfigMap '{config_map}' in namespace "
            f"'{namespace}'; create it, or drop the field."
        )
    return f"Pod {pod.name} cannot start: {detail}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
