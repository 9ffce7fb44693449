"""What rank 0 warns of while training goes on: storage that fails it, and whatever else it says.

Each is told where a person looks: as an event, in the history, and storage's state as a condition.
"""

import dataclasses
import re
from datetime import datetime

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Report
from trainyard_operator.decision import Event
from trainyard_operator.progress import is_storage_degraded, parse_report
from trainyard_operator.status import (
    STORAGE_DEGRADED,
    JobStatus,
    build_condition,
    with_condition,
)
from trainyard_operator.story import Line, Told, written
from trainyard_operator.wording import ended

_NUMBER = re.compile(r"\d+")


def take_notice(
    job: TrainingJob, status: JobStatus, report: Report | None, now: datetime
) -> tuple[JobStatus, tuple[Event, ...]]:
    """The status with what the newest attempt's report warns of; events where that is new."""
    report = parse_report(dataclasses.asdict(report)) if report else None
    if report is None or report.attempt != status.attempt:
        return status, ()
    told = [*_of_storage(status, report), *_of_anything_else(status, report)]
    status = _with_condition(job, status, report, now)
    events: list[Event] = []
    for line in told:
        status, event = written(status, line, line.message, now)
        events.append(event)
    return status, tuple(events)


def is_worth_a_look(status: JobStatus, report: Report) -> bool:
    """Whether a report of the newest attempt warns of anything that was not told."""
    return bool([*_of_storage(status, report), *_of_anything_else(status, report)])


def _of_storage(status: JobStatus, report: Report) -> list[Told]:
    is_degraded = report.storage_warning is not None
    if is_degraded == is_storage_degraded(status):
        return []
    if is_degraded:
        return [Told(Line.STORAGE_DEGRADED, ended(report.storage_warning or ""))]
    return [Told(Line.STORAGE_RECOVERED, "Storage is well again.")]


def _of_anything_else(status: JobStatus, report: Report) -> list[Told]:
    """Once for each attempt and kind of sentence: the same about the next step is no news."""
    if not report.warning or report.warning == report.storage_warning:
        return []
    message = ended(report.warning)
    told = (entry.message for entry in status.history if entry.attempt == status.attempt)
    if _kind(message) in map(_kind, told):
        return []
    return [Told(Line.WARNED, message)]


def _kind(message: str) -> str:
    return _NUMBER.sub("#", message)


def _with_condition(
    job: TrainingJob, status: JobStatus, report: Report, now: datetime
) -> JobStatus:
    """Absent as long as storage was always well."""
    warning, known = report.storage_warning, status.condition(STORAGE_DEGRADED)
    if warning is None and known is None:
        return status
    condition = build_condition(
        STORAGE_DEGRADED,
        warning is not None,
        "Degraded" if warning else "Well",
        ended(warning) if warning else "",
        generation=job.metadata.generation,
        now=now,
    )
    return status.model_copy(update={"conditions": with_condition(status.conditions, condition)})
