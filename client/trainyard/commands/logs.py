"""`trainyard logs`."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from trainyard.commands.arguments import job_argument, storage_options, take_storage_flags
from trainyard.errors import NotFound
from trainyard.options import Settings, Verb
from trainyard.output import note, render_line, say

if TYPE_CHECKING:
    from trainyard.jobs import Job
    from trainyard.locate import StoredRun
    from trainyard.logs import LogLine


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which lines are wanted."""

    rank: int | None
    attempt: int | None
    tail: int | None
    grep: str | None
    since: float | None
    labels: bool


class RankType(click.ParamType):
    """A global rank, or all."""

    name = "rank"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """-1 never stands for all."""
        if value == "all" or (isinstance(value, int) and value >= 0):
            return value
        if str(value).isdecimal():
            return int(value)
        raise click.BadParameter(f"'{value}' is no rank; write 0, 1, .. or all", ctx, param)


@click.command("logs", cls=Verb)
@job_argument(required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends, across restarts.")
@click.option("--rank", type=RankType(), help="Which rank, or all; default: 0.")
@click.option("--attempt", type=int, help="Only this attempt; default: all.")
@click.option("--tail", type=int, metavar="N", help="Only the last N lines.")
@click.option("--since", metavar="DURATION", help="Only lines younger than this, such as 10m.")
@click.option("--grep", metavar="PATTERN", help="Only lines that match.")
@click.option("--failed", is_flag=True, help="The rank and attempt that failed first.")
@storage_options(short_file=False)
@click.pass_obj
def command(settings: Settings, name: str | None, follow: bool, failed: bool, **typed: Any) -> None:
    """Print a job's logs, from its pods while they are there and from storage after that."""
    from trainyard.jobs import require_job
    from trainyard.options import Duration

    flags = take_storage_flags(typed)
    name = require_job(name)
    job, run = _find(settings, name, flags)
    name = job.name if job else name
    rank, since = typed.pop("rank"), typed.pop("since")
    query = Query(
        **typed,
        rank=None if rank == "all" else rank or 0,
        since=Duration().convert(since, None, None) if since else None,
        labels=rank == "all",
    )
    if failed:
        query = _of_failure(name, job, query)
    if follow and job:
        _follow(settings, job, query)
    else:
        _print_once(settings, name, job, run, query)


def _find(settings: Settings, name: str, flags: Any) -> tuple["Job | None", "StoredRun | None"]:
    """The job, or what it left in storage."""
    from trainyard.jobs import find_job
    from trainyard.locate import locate

    if flags.storage or flags.file:
        return None, locate(settings, name, flags)
    try:
        return find_job(settings, name), None
    except NotFound:
        return None, locate(settings, name, flags, "logs")


def _of_failure(name: str, job: "Job | None", query: Query) -> Query:
    import dataclasses

    failure = job.status.failure if job else None
    if failure is None:
        raise NotFound(f"'{name}' records no failure", f"trainyard logs {name}")
    rank = failure.rank
    if rank is None and job and failure.pod:
        from trainyard_operator.api import JobSpec
        from trainyard_operator.desired import node_index_of

        rank = node_index_of(failure.pod) * JobSpec.model_validate(job.spec).ranks_per_node
    return dataclasses.replace(query, attempt=failure.attempt, rank=rank or 0)


def _print_once(
    settings: Settings, name: str, job: "Job | None", run: "StoredRun | None", query: Query
) -> None:
    from trainyard.logs import open_logs

    reader = open_logs(job, run)
    lines = _wanted(reader.poll(query.attempt), query)
    if query.tail is not None:
        lines = lines[len(lines) - query.tail :] if query.tail else []
    _print(settings, lines, query)
    if lines or query.grep:
        return
    failure = job.status.failure if job else None
    if failure and failure.log_tail and query.attempt == failure.attempt:
        note(settings, "the log itself is out of reach; its last lines, from the job's status:")
        say("\n".join(failure.log_tail))
    elif reader.storage_error:
        raise reader.storage_error
    elif job and not job.is_finished:
        note(settings, f"{name} has logged nothing yet; wait with: trainyard logs {name} -f")
    elif job and job.cluster and not job.spec.get("recipe") and not reader.has_sources:
        note(
            settings,
            f"{name} runs a command without spec.storage, where its output would be kept: it was "
            "in the pods, and these are gone",
        )
    else:
        note(settings, f"nothing was logged by that rank; all: trainyard logs {name} --rank all")


def _follow(settings: Settings, job: "Job", query: Query) -> None:
    """Print until the job is at its end, then leave with its exit code."""
    from trainyard.errors import Interrupted
    from trainyard.follow import raise_for_end
    from trainyard.logs import follow_logs

    tail = query.tail
    try:
        for current, lines in follow_logs(job, query.attempt, settings.timeout):
            job, wanted = current, _wanted(lines, query)
            if tail is not None:
                wanted, tail = wanted[max(len(wanted) - tail, 0) :], None
            _print(settings, wanted, query)
    except KeyboardInterrupt:
        raise Interrupted(
            f"left {job.name}, which goes on", f"trainyard logs {job.name} -f"
        ) from None
    raise_for_end(job)


def _wanted(lines: list["LogLine"], query: Query) -> list["LogLine"]:
    from datetime import timedelta

    from trainyard.logs import select
    from trainyard.quantities import utc_now

    chosen = list(select(lines, query.rank, query.grep))
    if query.since is not None:
        start = (utc_now() - timedelta(seconds=query.since)).strftime("%Y-%m-%dT%H:%M:%S")
        chosen = [line for line in chosen if not line.time or line.time >= start]
    return chosen


def _print(settings: Settings, lines: list["LogLine"], query: Query) -> None:
    for line in lines:
        if settings.output == "json":
            values = {"attempt": line.attempt, "rank": line.rank, "time": line.time or None}
            say(render_line({**values, "text": line.text}))
        elif query.labels and line.rank is not None:
            say(f"[{line.attempt}/{line.rank}] {line.text}")
        else:
            say(line.text)
    sys.stdout.flush()
