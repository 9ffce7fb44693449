"""`trainyard get`."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from trainyard.commands.arguments import job_argument
from trainyard.errors import ClientError, NotFound, UsageError
from trainyard.options import SWEEP_WORDS, Settings, Verb
from trainyard.output import note, phase_text, render_document, render_table, say, without_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainyard.jobs import Job

COLUMNS = (
    "NAME",
    "PHASE",
    "PROGRESS",
    "STEP",
    "LOSS",
    "NODES",
    "RESTARTS",
    "CHECKPOINT",
    "AGE",
)
WIDE_COLUMNS = (*COLUMNS, "REASON", "ETA", "BEST", "NODE")


@click.command("get", cls=Verb)
@job_argument(required=False)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Jobs of all namespaces.")
@click.option("-l", "--selector", help="Only jobs with these labels, such as team=vision.")
@click.option("--sort", metavar="COLUMN", default="age", help="Column to sort by; default: age.")
@click.option("--limit", type=int, default=50, show_default=True, help="Most rows; 0: all.")
@click.pass_obj
def command(
    settings: Settings,
    name: str | None,
    everywhere: bool,
    selector: str | None,
    sort: str,
    limit: int,
) -> None:
    """List jobs, or tell one job's story; `sweeps` lists sweeps, sweep/NAME tells of one.

    Without -n, -A, -l or --context, the last run of each name on this machine is listed too.
    """
    if name in SWEEP_WORDS:
        _list_sweeps(settings, everywhere)
        return
    if name:
        _tell(settings, name)
        return
    jobs = _all_jobs(settings, everywhere, selector)
    jobs = sorted_jobs(jobs, sort)
    shown = jobs[:limit] if limit else jobs
    _list(settings, shown, everywhere)
    if len(shown) < len(jobs):
        note(settings, f"{len(jobs) - len(shown)} more; --limit 0 lists all")


def _all_jobs(settings: Settings, everywhere: bool, selector: str | None) -> list["Job"]:
    from trainyard.cluster import is_configured
    from trainyard.jobs import Job, newest_local, own_cluster

    only_cluster = settings.names_cluster or everywhere or bool(selector)
    jobs = [] if only_cluster else list(newest_local())
    if only_cluster or is_configured():
        cluster = own_cluster(settings)
        found = cluster.list_jobs(everywhere=everywhere, selector=selector)
        jobs += [Job(item, cluster=cluster) for item in found]
    return jobs


def sorted_jobs(jobs: list["Job"], column: str) -> list["Job"]:
    """By a column of the wide table; the youngest first for age. Raises UsageError."""
    from trainyard.quantities import utc_now

    name = column.upper()
    if name not in WIDE_COLUMNS:
        raise UsageError(f"there is no column '{column}'; there are {', '.join(WIDE_COLUMNS)}")
    if name == "AGE":
        return sorted(jobs, key=_created, reverse=True)
    index, now = WIDE_COLUMNS.index(name), utc_now()
    return sorted(jobs, key=lambda job: _sort_key(table_row(job, now)[index]))


def table_row(job: "Job", now: datetime) -> list[str]:
    """All columns, as `kubectl get tj -o wide` has them."""
    from trainyard.quantities import age_text, duration_text, parse_time
    from trainyard.story import checkpoint_age, is_under_way

    status, display = job.status, job.status.display
    progress = status.progress
    eta = parse_time(progress.estimated_completion_time) if progress else None
    return [
        job.name,
        "Abandoned" if job.is_abandoned else job.phase,
        display.progress,
        display.step,
        display.loss,
        display.nodes,
        display.restarts,
        checkpoint_age(status.checkpoints.latest, now),
        age_text(_created(job), now),
        display.reason,
        duration_text((eta - now).total_seconds()) if eta and is_under_way(status) else "",
        display.best,
        display.node,
    ]


def _list(settings: Settings, jobs: list["Job"], everywhere: bool) -> None:
    from trainyard.quantities import utc_now

    if settings.is_structured:
        items = [job.object for job in jobs]
        say(render_document(settings, {"apiVersion": "v1", "kind": "List", "items": items}))
        return
    if settings.output == "name":
        for job in jobs:
            say(job.name)
        return
    if not jobs:
        note(settings, "no jobs yet; start one with: trainyard run FILE, or trainyard submit FILE")
        return
    columns = WIDE_COLUMNS if settings.output == "wide" else COLUMNS
    header, rows = list(columns), []
    for job in jobs:
        row = table_row(job, utc_now())[: len(columns)]
        row[1] = phase_text(settings, row[1])
        rows.append(row)
    if everywhere:
        header.insert(0, "NAMESPACE")
        rows = [[job.namespace, *row] for job, row in zip(jobs, rows, strict=True)]
    places = {job.local is None for job in jobs}
    if len(places) > 1:
        header.append("WHERE")
        rows = [[*row, _place(job)] for job, row in zip(jobs, rows, strict=True)]
    say(render_table(header, rows))
    from trainyard.story import next_command

    _hint(settings, [next_command(job) for job in jobs if job.is_abandoned])


def _tell(settings: Settings, name: str) -> None:
    from trainyard.jobs import find_job, meant_sweep
    from trainyard.quantities import utc_now
    from trainyard.story import next_command, story_lines

    where, sweep = meant_sweep(settings, name)
    if sweep:
        _tell_sweep(where, sweep)
        return
    try:
        job = find_job(settings, name)
    except NotFound as error:
        raise _sweep_instead(settings, name) or error from None
    if not job.object:
        raise NotFound(f"there is no job '{name}'", "trainyard get")
    if settings.is_structured:
        say(render_document(settings, job.object))
    elif settings.output == "name":
        say(job.name)
    else:
        say("\n".join(story_lines(job, utc_now())))
        say(f"next:  {next_command(job)}")


def _tell_sweep(settings: Settings, name: str) -> None:
    from trainyard.sweeps import LIST_COLUMNS, TRIAL_COLUMNS, find_sweep, following_command

    sweep = find_sweep(settings, name)
    if settings.is_structured:
        say(render_document(settings, sweep.object))
        return
    if settings.output == "name":
        say(sweep.ref)
        return
    say(render_table(*without_empty(LIST_COLUMNS, [sweep.row()])))
    say(render_table(*without_empty(TRIAL_COLUMNS, sweep.trial_rows())))
    if sweep.is_abandoned:
        say("its runner on this machine ended before the sweep did")
    elif message := sweep.message():
        say(message)
    if uri := sweep.status.report_uri:
        say(f"report: {uri}")
    say(f"next:  {following_command(sweep)}")


def _sweep_instead(settings: Settings, name: str) -> NotFound | None:
    """What is said where a sweep has the name, and no job."""
    from trainyard.sweeps import find_sweep

    try:
        sweep = find_sweep(settings, name)
    except ClientError:
        return None
    return NotFound(f"there is no job '{name}', but a sweep", f"trainyard get {sweep.ref}")


def _list_sweeps(settings: Settings, everywhere: bool) -> None:
    from trainyard.sweeps import LIST_COLUMNS, list_sweeps, resume_command

    sweeps = list_sweeps(settings, everywhere=everywhere)
    if settings.is_structured:
        items = [sweep.object for sweep in sweeps]
        say(render_document(settings, {"apiVersion": "v1", "kind": "List", "items": items}))
    elif settings.output == "name":
        for sweep in sweeps:
            say(sweep.ref)
    elif sweeps:
        say(render_table(list(LIST_COLUMNS), [sweep.row() for sweep in sweeps]))
        _hint(settings, [resume_command(sweep) for sweep in sweeps if sweep.is_abandoned])
    else:
        note(settings, "no sweeps yet; start one with: trainyard submit SWEEP.yaml, or run")


def _hint(settings: Settings, commands: "Sequence[str]") -> None:
    """How to go on with what lost its runner; trials of one sweep share a command."""
    for text in dict.fromkeys(commands):
        note(settings, f"Abandoned: its runner on this machine ended first; next: {text}")


def _created(job: "Job") -> str:
    return str(job.object["metadata"].get("creationTimestamp") or "")


def _place(job: "Job") -> str:
    return "this machine" if job.local else "cluster"


def _sort_key(cell: str) -> tuple[float, str]:
    """Numbers by size, then words; 9% comes before 12%."""
    digits = cell.split("/", maxsplit=1)[0].rstrip("%")
    try:
        return (float(digits), cell)
    except ValueError:
        return (float("inf"), cell)
