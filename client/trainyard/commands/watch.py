"""`trainyard watch`."""

from typing import TYPE_CHECKING

import click

from trainyard.commands.arguments import job_argument, sweep_name
from trainyard.errors import Interrupted
from trainyard.options import Settings, Verb
from trainyard.output import note, say

if TYPE_CHECKING:
    from trainyard.jobs import Job


@click.command("watch", cls=Verb)
@job_argument(required=False)
@click.option("--compact", is_flag=True, help="Only what happens from now on.")
@click.pass_obj
def command(settings: Settings, name: str | None, compact: bool) -> None:
    """Follow a job, or sweep/NAME, until it ends. Ctrl-C leaves, and the job goes on.

    The exit code is the job's: 0 Succeeded, 10 Failed, 11 suspended or deleted.
    """
    from trainyard.jobs import find_job, require_job

    if name and (sweep := sweep_name(name)):
        _follow_sweep(settings, sweep)
        return
    job = find_job(settings, require_job(name))
    note(settings, f"watching {job.name}; Ctrl-C leaves, the job goes on")
    follow_to_end(settings, job, compact=compact)


def _follow_sweep(settings: Settings, name: str) -> None:
    from trainyard.sweeps import Sweep, find_sweep, follow

    shown: list[str] = []

    def show(sweep: Sweep) -> None:
        row = sweep.row()
        if row != shown and not settings.is_structured:
            say("  ".join(cell for cell in row if cell))
        shown[:] = row

    sweep = find_sweep(settings, name)
    try:
        ended = follow(sweep, show, settings.timeout)
    except KeyboardInterrupt:
        raise Interrupted(f"left {name}, which goes on", f"trainyard watch sweep/{name}") from None
    if not settings.is_structured:
        say(ended.message())
        note(settings, f"next: trainyard fetch sweep/{name}")


def follow_to_end(settings: Settings, job: "Job", *, compact: bool = False) -> None:
    """Show the job until its end, then say how it ended. Raises JobFailed, JobStopped."""
    import sys

    from trainyard.display import Display
    from trainyard.follow import wait_for
    from trainyard.story import end_lines, next_command
    from trainyard_operator.layout import LOGS_PREFIX

    try:
        with Display(settings, sys.stdout) as display:
            if compact:
                display.skip_history(job)
            ended = wait_for(job, display.update, settings.timeout)
    except KeyboardInterrupt:
        raise Interrupted(
            f"left {job.name}, which goes on", f"trainyard watch {job.name}"
        ) from None
    if not settings.is_structured:
        logs = ended.status.logs
        uri = logs.uri.removesuffix(f"/{LOGS_PREFIX}") if logs else None
        say("\n".join(end_lines(ended, uri)))
        note(settings, f"next: {next_command(ended)}")
