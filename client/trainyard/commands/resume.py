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
    """Let a suspended job go on from its checkpoint, or sweep/NAME with its trials."""
    from trainyard.jobs import Job
    from trainyard.story import run_target
    from trainyard.sweeps import find_job_or_sweep
    from trainyard.trials import sweep_of

    job = find_job_or_sweep(settings, name)
    sweep = sweep_of(job) if isinstance(job, Job) and not job.is_finished else None
    if sweep:
        raise ClientError(
            f"{job.name} is a trial of sweep {sweep}, which alone lets it go on",
            f"trainyard get sweep/{sweep}",
        )
    if job.is_finished:
        raise ClientError(f"{job.name} has {job.phase.lower()} already", f"trainyard get {name}")
    if job.local:
        raise ClientError(
            f"{job.name} is a run of this machine; run it again with the same command",
            f"trainyard run {run_target(job)}",
        )
    job.suspend(False)
    note(settings, f"follow it with: trainyard watch {job.ref}")
    say(job.ref)
