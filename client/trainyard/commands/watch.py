"""`trainyard watch`."""

from typing import TYPE_CHECKING

import click

from trainyard.commands.arguments import job_argument
from trainyard.errors import Interrupted
from trainyard.options import Settings, Verb
from trainyard.output import note, render_line, say

if TYPE_CHECKING:
    from trainyard.jobs import Job
    from trainyard.sweeps import Sweep


@click.command("watch", cls=Verb)
@job_argument(required=False)
@click.option("--compact", is_flag=True, help="Only what happens from now on.")
@click.pass_obj
def command(settings: Settings, name: str | None, compact: bool) -> None:
    """Follow a job, or sweep/NAME, until it ends. Ctrl-C leaves, and the job goes on.

    The exit code is the job's: 0 Succeeded, 10 Failed, 11 suspended or deleted.
    """
    from trainyard.jobs import find_job, meant_sweep, require_job

    name = require_job(name)
    where, sweep = meant_sweep(settings, name)
    if sweep:
        from trainyard.sweeps import find_sweep

        follow_sweep(settings, find_sweep(where, sweep))
        return
    job = find_job(settings, name)
    note(settings, f"watching {job.name}; Ctrl-C leaves, the job goes on")
    follow_to_end(settings, job, compact=compact)


def follow_sweep(settings: Settings, sweep: "Sweep") -> None:
    """Show the sweep until its end, a line for each change. Raises JobFailed, JobStopped."""
    from trainyard.sweeps import follow, next_command

    shown: list[str] = []

    def show(sweep: "Sweep") -> None:
        row = [*sweep.row(), sweep.refusal()]
        if row != shown and settings.output == "json":
            status = sweep.object.get("status") or {}
            say(render_line({"name": sweep.ref, "status": status}))
        elif row != shown and not settings.is_structured:
            say("  ".join(cell for cell in row if cell))
        shown[:] = row

    try:
        ended = follow(sweep, show, settings.timeout)
    except KeyboardInterrupt:
        raise Interrupted(
            f"left {sweep.name}, which goes on", f"trainyard watch {sweep.ref}"
        ) from None
    if not settings.is_structured:
        say(ended.message())
        note(settings, f"next: {next_command(ended)}")


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
