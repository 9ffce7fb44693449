"""Judging an attempt from its pods: who failed first and why, or what it waits for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from signal import Signals

from pydantic import TypeAdapter, ValidationError

from trainyard_operator import wording
from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import EXIT_CAUSES, Cause, Summary
from trainyard_operator.desired import node_name
from trainyard_operator.observed import NODE_TAINTED, PodRecord, Terminated
from trainyard_operator.status import FailureStatus

SETTLE = timedelta(seconds=3)
"""How long a failure that may be an echo waits for the report that names the culprit."""
LINGER = timedelta(seconds=60)
"""How long the other pods may run on once the first one stored the result."""
LOG_TAIL_LINES = 5

_RANKING = (
    Cause.CONFIGURATION,
    Cause.OUT_OF_MEMORY,
    Cause.USER_EXIT,
    Cause.STALLED,
    Cause.DEADLINE,
    Cause.EVICTED,
    Cause.PREEMPTED,
    Cause.NODE_LOST,
    Cause.UNSCHEDULABLE,
    Cause.POD_DELETED,
    Cause.STORAGE,
    Cause.CHECKPOINTED,
    Cause.PEER_LOST,
)
"""Of several failures of one attempt, the first of these is the culprit; among equals, the
earliest."""
_OWN_SIGNALS = frozenset({Signals.SIGKILL, Signals.SIGSEGV, Signals.SIGBUS, Signals.SIGILL})
"""What a lost peer never does to a program. NCCL's watchdog aborts it: SIGABRT proves nothing."""
_UNEXPLAINED_EXIT = _RANKING.index(Cause.POD_DELETED) + 0.5
"""A program that is no recipe cannot say that it died of a lost peer: if a pod was taken away too,
that explains the exit."""

_POD_REASONS = {
    "Evicted": Cause.EVICTED,
    "Preempting": Cause.PREEMPTED,
    "NodeLost": Cause.NODE_LOST,
    "NodeShutdown": Cause.NODE_LOST,
    "Terminated": Cause.NODE_LOST,
    "DeadlineExceeded": Cause.DEADLINE,
}
_DISRUPTIONS = {
    "PreemptionByScheduler": Cause.PREEMPTED,
    "EvictionByEvictionAPI": Cause.EVICTED,
    "TerminationByKubelet": Cause.EVICTED,
    NODE_TAINTED: Cause.NODE_LOST,
    "DeletionByPodGC": Cause.NODE_LOST,
}
_CONTAINER_REASONS = {
    "OOMKilled": Cause.OUT_OF_MEMORY,
    "ContainerStatusUnknown": Cause.NODE_LOST,
}
_KUBELET_IS_BEHIND = "failed to sync"
"""A kubelet that has not fetched a Secret or ConfigMap yet says so, and tries again at once."""
_IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_START_REASONS = frozenset({"CreateContainerError", "RunContainerError", "PostStartHookError"})
_SUMMARY = TypeAdapter(Summary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an attempt does not start yet."""

    cause: Cause
    message: str
    pod: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Suspect:
    """A pod's failure, and what tells it from the others of its gang."""

    failure: FailureStatus
    is_explained: bool
    """Whether the trainer, or Kubernetes, said why."""
    ended: datetime | None = None
    waited: bool = False
    """Whether it only waited for others that made no progress."""

    @property
    def weight(self) -> tuple[float, bool, bool, datetime]:
        """The least is the culprit's."""
        cause = Cause(self.failure.cause)
        is_mute = cause is Cause.USER_EXIT and not self.is_explained
        rank = _UNEXPLAINED_EXIT if is_mute else _RANKING.index(cause)
        may_be_echo = (self.failure.exit_code or 0) - 128 not in _OWN_SIGNALS
        ended = self.ended or datetime.max.replace(tzinfo=UTC)
        return rank, self.waited, is_mute and may_be_echo, ended


def summary_of(pod: PodRecord) -> Summary | None:
    """The trainer's own account of how the pod ended, or its ranks did, if it left one."""
    if pod.standby and pod.terminated is None:
        return pod.standby.summary
    if pod.terminated is None or not pod.terminated.message.startswith("{"):
        return None
    try:
        return _SUMMARY.validate_json(pod.terminated.message)
    except ValidationError:
        return None


def known_cause(failure: FailureStatus | None) -> Cause:
    """Why the last attempt failed, where the status says it in words of this version."""
    is_known = failure is not None and failure.cause in set(Cause)
    return Cause(failure.cause) if failure and is_known else Cause.POD_DELETED


def first_failure(
    job: TrainingJob, attempt: int, pods: tuple[PodRecord, ...], *, formed: bool
) -> FailureStatus | None:
    """The culprit among the pods of one attempt; None while nothing has failed.

    A pod missing from an attempt that had `formed` was deleted by somebody.
    """
    suspects = [_suspect(job, pod, attempt) for pod in pods if _has_failed(pod)]
    if formed:
        present = {pod.name for pod in pods}
        names = (node_name(job.metadata.name, index) for index in range(job.spec.nodes))
        suspects += [_missing(name, attempt) for name in names if name not in present]
    if suspects:  # Only then: a pod that leaves may still save, and end well.
        leaving = (pod for pod in pods if pod.is_deleting and not _is_over(pod))
        suspects += [_suspect(job, pod, attempt) for pod in leaving]
    culprit = min(suspects, key=lambda suspect: suspect.weight, default=None)
    return culprit.failure if culprit else None


def settles_at(
    failure: FailureStatus, pods: tuple[PodRecord, ...], *, awaits_report: bool = False
) -> datetime | None:
    """When to believe that this was the first failure; None: at once.

    The pods of a gang end within moments of each other, and the one to blame may report last.
    awaits_report: whether something depends on the last report, which the first pod brings.
    """
    ends = [end for pod in pods if (end := _end_of(pod, None))]
    if not ends or all(_is_over(pod) for pod in pods):
        return None
    explained = {pod.name: summary for pod in pods if (summary := summary_of(pod))}
    told = explained.get(failure.pod or "")
    is_mute = failure.cause == Cause.USER_EXIT and (told is None or told.cause is None)
    is_echo = failure.cause == Cause.PEER_LOST or (told is not None and told.waited)
    is_early = awaits_report and any(p.node_index == 0 and not _is_over(p) for p in pods)
    return max(ends) + SETTLE if is_mute or is_echo or is_early else None


def is_success(pods: tuple[PodRecord, ...], nodes: int) -> bool:
    """Whether every pod ended well, or all ended and the first one stored the result."""
    if len(pods) == nodes and all(pod.has_succeeded for pod in pods):
        return True
    return is_result_stored(pods) and all(pod.has_ended for pod in pods)


def is_result_stored(pods: tuple[PodRecord, ...]) -> bool:
    """Whether the first pod ended after it stored the result: what its peers do then is no
    failure of the job."""
    summaries = (summary_of(pod) for pod in pods if pod.node_index == 0)
    return any(summary is not None and summary.result for summary in summaries)


def lingers_until(pods: tuple[PodRecord, ...]) -> datetime | None:
    """When to stop waiting for the peers of a first pod that stored the result."""
    if not is_result_stored(pods):
        return None
    ends = (p.terminated.finished for p in pods if p.node_index == 0 and p.terminated)
    return next((end + LINGER for end in ends if end), None)


def problem(job: TrainingJob, pods: tuple[PodRecord, ...]) -> Problem | None:
    """What keeps a pod from running, in a sentence that says what to do; a fault of the job
    comes before a full cluster."""
    found = [problem for pod in pods if (problem := _problem(job, pod))]
    faults = (problem for problem in found if problem.cause is not Cause.UNSCHEDULABLE)
    return next(faults, found[0] if found else None)


def _problem(job: TrainingJob, pod: PodRecord) -> Problem | None:
    reason = pod.waiting.reason if pod.waiting else ""
    detail = pod.waiting.message if pod.waiting else ""
    if pod.unschedulable:
        sentence = wording.unschedulable(job, pod)
        return Problem(cause=Cause.UNSCHEDULABLE, message=sentence, pod=pod.name)
    if reason in _IMAGE_REASONS:
        sentence = wording.image(job, pod, reason, detail)
        return Problem(cause=Cause.IMAGE_PULL, message=sentence, pod=pod.name)
    if reason == "CreateContainerConfigError" and not detail.startswith(_KUBELET_IS_BEHIND):
        sentence = wording.reference(job, pod, detail)
        return Problem(cause=Cause.CONFIGURATION, message=sentence, pod=pod.name)
    if reason in _START_REASONS:
        sentence = wording.cannot_start(pod, detail)
        return Problem(cause=Cause.CONFIGURATION, message=sentence, pod=pod.name)
    return None


def _suspect(job: TrainingJob, pod: PodRecord, attempt: int) -> _Suspect:
    summary = summary_of(pod)
    cause = _cause_of(pod, summary)
    exit_code = pod.terminated.exit_code if pod.terminated else None
    failure = FailureStatus(
        cause=cause,
        message=wording.failure(job, pod, summary, cause),
        rank=summary.rank if summary else None,
        pod=pod.name,
        node=pod.node,
        exit_code=summary.exit_code if summary else exit_code,
        attempt=attempt,
        log_tail=(summary.log_tail if summary else wording.log_tail(pod))[-LOG_TAIL_LINES:],
    )
    return _Suspect(
        failure=failure,
        is_explained=summary is not None and summary.cause is not None,
        ended=_end_of(pod, summary),
        waited=summary is not None and summary.waited,
    )


def _has_failed(pod: PodRecord) -> bool:
    """Whether the pod failed, or its ranks did in a pod that goes on, or its node took it along."""
    return pod.has_failed or pod.is_lost or (pod.standby is not None and not pod.has_ended)


def _is_over(pod: PodRecord) -> bool:
    return pod.has_ended or pod.standby is not None


def _end_of(pod: PodRecord, summary: Summary | None) -> datetime | None:
    if summary and summary.ended:
        return datetime.fromtimestamp(summary.ended, UTC)
    if pod.terminated:
        return pod.terminated.finished
    return pod.standby.since if pod.standby else None


def _missing(name: str, attempt: int) -> _Suspect:
    message = f"Pod {name} was deleted."
    failure = FailureStatus(cause=Cause.POD_DELETED, message=message, pod=name, attempt=attempt)
    return _Suspect(failure=failure, is_explained=True)


def _cause_of(pod: PodRecord, summary: Summary | None) -> Cause:
    ended = pod.terminated
    told = _POD_REASONS.get(pod.reason) or _DISRUPTIONS.get(pod.disruption)
    if told is None and ended:
        told = _CONTAINER_REASONS.get(ended.reason)
    if told is None and summary and summary.cause in _RANKING:
        told = Cause(summary.cause)
    if told:
        return told
    if pod.is_deleting and summary is None:
        return Cause.POD_DELETED
    if ended:
        return _cause_of_exit(ended)
    if summary:
        return EXIT_CAUSES.get(summary.exit_code, Cause.USER_EXIT)
    return Cause.UNSCHEDULABLE if pod.reason else Cause.NODE_LOST


def _cause_of_exit(ended: Terminated) -> Cause:
    if ended.reason == "StartError" and wording.COMMAND in ended.message:
        return Cause.CONFIGURATION
    return EXIT_CAUSES.get(ended.exit_code, Cause.USER_EXIT)
