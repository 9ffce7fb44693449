"""`trainyard delete`."""

import sys
from typing import TYPE_CHECKING

import click

from trainyard.commands.arguments import job_argument
from trainyard.errors import ClientError, UsageError
from trainyard.options import Settings, Verb
from trainyard.output import note, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainyard.jobs import Job
    from trainyard.sweeps import Sweep


@click.command("delete", cls=Verb)
@job_argument()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(settings: Settings, name: str, yes: bool) -> None:
    """Delete a job, or sweep/NAME with its trials; on this machine every run of that name.

    What they stored stays: checkpoints, logs, metrics and reports.
    """
    from trainyard.locate import storage_command
    from trainyard.sweeps import earlier_runs, find_job_or_sweep

    job = find_job_or_sweep(settings, name)
    earlier = earlier_runs(job)
    told = f" and {_runs(len(earlier))} before it" if earlier else ""
    if not yes:
        _ask(job, told)
    _require_stopped([job, *earlier])
    for run in (job, *earlier):
        run.delete()
    stored, where = job.stored_as()
    if uri := where.get("uri"):
        note(settings, f"what {job.name} stored stays at {uri}; read it with:")
        note(settings, storage_command("fetch", stored, job.namespace, where))
    if earlier:
        note(settings, f"deleted {_runs(len(earlier))} before it, too; what they stored stays")
    say(job.ref)


def _runs(count: int) -> str:
    return f"{count} {'run' if count == 1 else 'runs'}"


def _require_stopped(runs: "Sequence[Job | Sweep]") -> None:
    """Raises ClientError where one of them is at work on this machine."""
    for run in runs:
        if run.local and (pid := run.local.runner_pid):
            help_ = f"trainyard suspend {run.ref}" if run is runs[0] else f"kill {pid}"
            raise ClientError(f"{run.name} still runs on this machine, process {pid}", help_)


def _ask(job: "Job | Sweep", told: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"deleting {job.name} needs a yes, and there is no terminal to ask on",
            f"trainyard delete {job.ref} -y",
        )
    where = "on this machine" if job.local else f"in namespace {job.namespace}"
    if not click.confirm(f"Delete {job.name} {where} ({job.phase}){told}?", err=True):
        raise ClientError(f"{job.name} was left as it is")
