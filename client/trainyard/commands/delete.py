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


@click.command("delete", cls=Verb)
@job_argument()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(settings: Settings, name: str, yes: bool) -> None:
    """Delete a job. What it stored stays: checkpoints, logs and metrics."""
    from trainyard.jobs import find_job
    from trainyard.local.node_memory import remove_node_memory
    from trainyard.locate import storage_command

    job = find_job(settings, name)
    if not yes:
        _ask(job)
    if job.cluster:
        job.cluster.delete_job(job.name)
    elif job.local:
        if pid := job.local.runner_pid:
            raise ClientError(
                f"{job.name} still runs on this machine, process {pid}",
                f"trainyard suspend {job.name}",
            )
        remove_node_memory(job.uid)
        job.local.remove()
    where = job.spec.get("storage") or {}
    if uri := where.get("uri"):
        note(settings, f"what {job.name} stored stays at {uri}; read it with:")
        note(settings, storage_command("fetch", job.name, job.namespace, where))
    say(job.name)


def _ask(job: "Job") -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"deleting {job.name} needs a yes, and there is no terminal to ask on",
            f"trainyard delete {job.name} -y",
        )
    where = "on this machine" if job.local else f"in namespace {job.namespace}"
    if not click.confirm(f"Delete {job.name} {where} ({job.phase})?", err=True):
        raise ClientError(f"{job.name} was left as it is")
