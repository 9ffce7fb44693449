"""What rank 0 reports, taken over into the status, and the columns people read."""

import dataclasses
import math
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from trainyard_operator.contract import Report, now_text
from trainyard_operator.curve import joined
from trainyard_operator.observed import PodRecord
from trainyard_operator.status import (
    FINISHED,
    STORAGE_DEGRADED,
    Checkpoints,
    Display,
    Goodput,
    JobStatus,
    NodeCounts,
    Progress,
    SavedCheckpoint,
    StatusModel,
)

_Part = TypeVar("_Part", bound=StatusModel)
_REPORT = TypeAdapter(Report)

LOSS_METRICS = ("train_loss", "loss")


def with_report(status: JobStatus, report: Report | None) -> JobStatus:
    """The status with what the report knows.

    A report of another attempt changes nothing, nor does one that was collected before the last
    words of the attempt, which its first pod leaves when it ends.
    """
    if report is None or report.attempt != status.attempt:
        return status
    report = parse_report(dataclasses.asdict(report))
    if report is None or _is_outdated(status, report):
        return status
    known = status.checkpoints
    stamps = {
        "lastReportTime": report.time,
        "attempt": report.attempt,
        "resumedStep": report.resumed_step,
    }
    stamped = {**report.progress, **stamps} if report.progress else None
    counted = _parse(Checkpoints, {"kept": report.kept}) if report.kept is not None else None
    checkpoints = Checkpoints(
        latest=_parse(SavedCheckpoint, report.latest) or known.latest,
        best=_parse(SavedCheckpoint, report.best) or known.best,
        kept=known.kept if counted is None else counted.kept,
    )
    progress = _with_curve(_parse(Progress, stamped), status.progress) or status.progress
    goodput = _parse(Goodput, report.goodput) or status.goodput
    known_now = {"progress": progress, "checkpoints": checkpoints, "goodput": goodput}
    return status.model_copy(update=known_now)


def _with_curve(new: Progress | None, known: Progress | None) -> Progress | None:
    """What attempts before this one evaluated stays, up to where this one repeats it."""
    if new is None or known is None or not known.curve:
        return new
    before, after = ([(int(p[0]), p[1]) for p in part.curve or ()] for part in (known, new))
    return new.model_copy(update={"curve": [list(point) for point in joined(before, after)]})


def _is_outdated(status: JobStatus, report: Report) -> bool:
    """Times of one attempt come from one clock, that of its rank 0; others are not compared."""
    known = status.progress
    if known is None or known.attempt != report.attempt or known.last_report_time is None:
        return False
    return report.time < known.last_report_time


def parse_report(raw: dict[str, Any] | None) -> Report | None:
    """The report as a program sent it; one that is malformed counts as absent."""
    try:
        return _REPORT.validate_python(raw) if raw else None
    except ValidationError:
        return None


def lost_steps(status: JobStatus) -> int | None:
    """Steps that the next attempt repeats; None where nothing is known."""
    if status.progress is None or status.progress.step is None:
        return None
    if status.progress.attempt != status.attempt:
        return None  # The newest attempt never reported: it has taken no step.
    saved = status.checkpoints.latest.step if status.checkpoints.latest else 0
    return max(status.progress.step - saved, 0)


def is_storage_degraded(status: JobStatus) -> bool:
    """Whether the newest report that said anything about it said so."""
    condition = status.condition(STORAGE_DEGRADED)
    return condition is not None and condition.status == "True"


def count_nodes(pods: tuple[PodRecord, ...], desired: int) -> NodeCounts:
    """Pods of one attempt by what became of them."""
    return NodeCounts(
        desired=desired,
        ready=sum(pod.running and not pod.is_deleting for pod in pods),
        succeeded=sum(pod.has_succeeded for pod in pods),
        failed=sum(pod.has_failed for pod in pods),
    )


def build_display(status: JobStatus, reason: str, pods: tuple[PodRecord, ...]) -> Display:
    """The printer columns."""
    progress = status.progress or Progress()
    best = status.checkpoints.best
    first = next((pod.node for pod in pods if pod.node_index == 0 and pod.node), "")
    losses = (progress.metrics[name] for name in LOSS_METRICS if name in progress.metrics)
    return Display(
        progress=f"{progress.percent}%" if progress.percent is not None else "",
        step=_fraction(progress.step, progress.steps),
        loss=next(losses, ""),
        nodes=f"{_nodes_at_work(status)}/{status.nodes.desired}",
        restarts=str(status.restarts.user + status.restarts.infrastructure),
        best=f"{best.metric} {best.value}" if best and best.metric else "",
        reason=reason,
        node=first,
    )


def is_new_report(status: JobStatus, report: Report, now: datetime) -> bool:
    """Whether a report says anything that the status does not, beside the time."""
    changed = with_report(status, report)
    stamp = {"last_report_time": now_text(now)}
    before, after = (
        s.progress.model_copy(update=stamp) if s.progress else None for s in (status, changed)
    )
    return before != after or changed.checkpoints != status.checkpoints


def _parse(part: type[_Part], raw: dict[str, Any] | None) -> _Part | None:
    """What a program reported, without numbers that JSON cannot hold; None if malformed."""
    finite = {
        key: value
        for key, value in (raw or {}).items()
        if not (isinstance(value, float) and not math.isfinite(value))
    }
    try:
        return part.model_validate(finite) if finite else None
    except ValidationError:
        return None


def _nodes_at_work(status: JobStatus) -> int:
    """Pods that run or, once the job is over, that ended well."""
    return status.nodes.succeeded if status.phase in FINISHED else status.nodes.ready


def _fraction(part: int | None, whole: int | None) -> str:
    if part is None:
        return ""
    return f"{part}/{whole}" if whole is not None else str(part)
