"""A job that is a trial: its sweep, and not a person, lets it go on."""

from trainyard.jobs import Job
from trainyard.state import local_sweeps
from trainyard_operator.sweep.names import (
    HELD_ANNOTATION,
    HELD_REASON_ANNOTATION,
    SWEEP_LABEL,
    SWEEP_UID_LABEL,
)


def sweep_of(job: Job) -> str | None:
    """The sweep that decides whether it goes on; None where a person does.

    One that somebody else suspended in a cluster is theirs to resume.
    """
    notes = job.object["metadata"].get("annotations") or {}
    if job.local is None and HELD_ANNOTATION not in notes:
        return None
    return _labels(job).get(SWEEP_LABEL)


def why_held(job: Job) -> str:
    """Why its sweep does not let it go on, as a sentence; empty where it does not say."""
    if job.local is None:
        notes = job.object["metadata"].get("annotations") or {}
        return str(notes.get(HELD_REASON_ANNOTATION) or "")
    labels = _labels(job)
    for local in local_sweeps(labels.get(SWEEP_LABEL)):
        stored = local.object
        if stored["metadata"].get("uid") == labels.get(SWEEP_UID_LABEL):
            _, because = (stored.get("held") or {}).get(job.name, ("", ""))
            return str(because)
    return ""


def _labels(job: Job) -> dict[str, str]:
    found: dict[str, str] = job.object["metadata"].get("labels") or {}
    return found
