"""Wait for a job, wherever it lives, and turn its end into an exit code."""

import time
from collections.abc import Callable, Iterator

from trainyard.errors import JobFailed, JobStopped, NotFound, Unreachable, WaitTimeout
from trainyard.jobs import Job
from trainyard.story import failure_tail, next_command

LOCAL_SECONDS = 0.25
QUIET_SECONDS = 1.0
"""After a watch ended without news."""
UNREACHABLE_SECONDS = 120.0
"""How long an API server may be away before following it is given up."""


def changes(job: Job, timeout: float | None = None) -> Iterator[Job]:
    """The job, then each newer state of it, until it is finished, suspended or gone.

    The state is given again from time to time. Raises WaitTimeout, NotFound once it is deleted.
    """
    deadline = time.monotonic() + timeout if timeout else None
    yield job
    while not is_at_rest(job):
        if deadline and time.monotonic() >= deadline:
            raise WaitTimeout(
                f"{job.name} is still {job.phase} after {timeout:.0f} s; it goes on",
                f"trainyard watch {job.name}",
            )
        left = deadline - time.monotonic() if deadline else None
        for newer in _newer(job, left):
            job = newer
            yield job
            if is_at_rest(job):
                return


def is_at_rest(job: Job) -> bool:
    """Whether nothing will change by itself any more."""
    return job.is_finished or job.is_abandoned or (job.phase == "Suspended" and _is_idle(job))


def wait_for(
    job: Job, show: Callable[[Job], None] | None = None, timeout: float | None = None
) -> Job:
    """Follow the job to its end. Raises JobFailed, JobStopped, WaitTimeout."""
    last = job
    try:
        for last in changes(job, timeout):
            if show:
                show(last)
    except NotFound as error:
        raise JobStopped(f"{job.name} was deleted", "trainyard get") from error
    raise_for_end(last)
    return last


def raise_for_end(job: Job) -> None:
    """Nothing for a job that succeeded. Raises JobFailed or JobStopped."""
    status = job.status
    if status.phase == "Failed":
        failure = status.failure
        message = failure.message if failure else "no reason was recorded"
        raise JobFailed(
            f"{job.name} failed: {message}",
            next_command(job),
            tuple(failure_tail(status)),
            cause=failure.cause if failure else None,
            rank=failure.rank if failure else None,
        )
    if job.is_abandoned:
        raise JobStopped(f"the runner of {job.name} has ended", next_command(job))
    if status.phase == "Suspended":
        raise JobStopped(f"{job.name} is suspended", next_command(job))


def _newer(job: Job, seconds: float | None) -> Iterator[Job]:
    if job.cluster is None:
        time.sleep(LOCAL_SECONDS)
        yield job.refreshed()
        return
    version = job.object["metadata"].get("resourceVersion") or "0"
    bound = max(1, min(30, int(seconds))) if seconds is not None else 30
    try:
        for event in job.cluster.watch_job(job.name, version, bound):
            if event["type"] == "DELETED":
                raise NotFound(f"job '{job.name}' was deleted")
            if event["type"] in {"ADDED", "MODIFIED"}:
                yield Job(event["object"], cluster=job.cluster)
    except Unreachable:
        pass
    yield _again(job)


def _again(job: Job) -> Job:
    """Read the job, with patience for an API server that restarts."""
    deadline = time.monotonic() + UNREACHABLE_SECONDS
    while True:
        try:
            return job.refreshed()
        except Unreachable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(QUIET_SECONDS)


def _is_idle(job: Job) -> bool:
    return job.status.nodes.ready == 0 and (job.local is None or job.local.runner_pid is None)
