"""`trainyard delete`."""

import sys
from typing import TYPE_CHECKING

import click

from trainyard.commands.arguments import job_argument
from trainyard.errors import ClientError, UsageError
from trainyard.options import Settings, Verb
from trainyard.output import note, say

if TYPE_CHECKING:
    from trainyard.jobs import Job
    from trainyard.sweeps import Sweep


@click.command("delete", cls=Verb)
@job_argument()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(settings: Settings, name: str, yes: bool) -> None:
    """Delete a job, or sweep/NAME with its trials.

    What they stored stays: checkpoints, logs, metrics and reports.
    """
    from trainyard.locate import storage_command
    from trainyard.sweeps import find_job_or_sweep

    job = find_job_or_sweep(settings, name)
    if not yes:
        _ask(job)
    if job.local and (pid := job.local.runner_pid):
        raise ClientError(
            f"{job.name} still runs on this machine, process {pid}",
            f"trainyard suspend {job.ref}",
        )
    job.delete()
    stored, where = job.stored_as()
    if uri := where.get("uri"):
        note(settings, f"what {job.name} stored stays at {uri}; read it with:")
        note(settings, storage_command("fetch", stored, job.namespace, where))
    say(job.ref)


def _ask(job: "Job | Sweep") -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"deleting {job.name} needs a yes, and there is no terminal to ask on",
            f"trainyard delete {job.ref} -y",
        )
    where = "on this machine" if job.local else f"in namespace {job.namespace}"
    if not click.confirm(f"Delete {job.name} {where} ({job.phase})?", err=True):
        raise ClientError(f"{job.name} was left as it is")
