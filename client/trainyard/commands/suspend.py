"""`trainyard suspend`."""

import os
import signal

import click

from trainyard.commands.arguments import job_argument
from trainyard.errors import ClientError
from trainyard.options import Settings, Verb
from trainyard.output import note, say


@click.command("suspend", cls=Verb)
@job_argument()
@click.pass_obj
def command(settings: Settings, name: str) -> None:
    """Stop a job after a checkpoint; `trainyard resume` lets it go on.

    Of sweep/NAME every trial that runs is stopped so, and none begins.
    """
    from trainyard.jobs import Job
    from trainyard.story import run_target
    from trainyard.sweeps import find_job_or_sweep
    from trainyard.trials import sweep_of

    job = find_job_or_sweep(settings, name)
    if job.is_finished:
        raise ClientError(f"{job.name} has {job.phase.lower()} already", f"trainyard get {name}")
    if job.local and isinstance(job, Job) and (sweep := sweep_of(job)):
        raise ClientError(
            f"{job.name} is a trial of sweep {sweep}, and its process is the sweep's",
            f"trainyard suspend sweep/{sweep}",
        )
    if job.cluster:
        job.suspend(True)
        note(settings, f"go on with: trainyard resume {job.ref}")
    elif job.local and (pid := job.local.runner_pid):
        os.kill(pid, signal.SIGTERM)
        note(settings, f"go on with: trainyard run {run_target(job)}")
    say(job.ref)
