"""`trainyard resume`."""

import click

from trainyard.commands.arguments import job_argument
from trainyard.errors import ClientError
from trainyard.options import Settings, Verb
from trainyard.output import note, say


@click.command("resume", cls=Verb)
@job_argument()
@click.pass_obj
def command(settings: Settings, name: str) -> None:
    """Let a suspended job go on from its checkpoint."""
    from trainyard.jobs import find_job
    from trainyard.story import run_target

    job = find_job(settings, name)
    if job.local:
        raise ClientError(
            f"{job.name} is a run of this machine", f"trainyard run {run_target(job)}"
        )
    if job.is_finished:
        raise ClientError(f"{job.name} has {job.phase.lower()} already", f"trainyard get {name}")
    assert job.cluster is not None  # noqa: S101  a job is local or of a cluster
    job.cluster.patch_job(job.name, {"spec": {"runPolicy": {"suspend": False}}})
    note(settings, f"follow it with: trainyard watch {job.name}")
    say(job.name)
