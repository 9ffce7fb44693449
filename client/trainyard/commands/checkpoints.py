"""`trainyard checkpoints`."""

from typing import TYPE_CHECKING, Any

import click

from trainyard.commands.arguments import job_argument, storage_options, take_storage_flags
from trainyard.errors import CheckpointMissing, Exit
from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, render_table, say

if TYPE_CHECKING:
    from trainyard.checkpoints import Row


@click.command("checkpoints", cls=Verb)
@job_argument(required=False)
@click.option("--best", is_flag=True, help="Only the best one.")
@click.option("--verify", is_flag=True, help="Read every byte, not only the sizes.")
@click.option("--directory", is_flag=True, help="Copies of the checkpoint directory.")
@storage_options()
@click.pass_obj
def command(
    settings: Settings, name: str | None, best: bool, verify: bool, directory: bool, **typed: Any
) -> int:
    """List a job's checkpoints; with --storage, without job and cluster.

    Of a program given as command: the copies of its checkpoint directory, those of attempt 2 as
    a2/1, a2/2 and so on, which `fetch` takes; unless it saved with our checkpointer, too.

    Exit code 12 if one of them is corrupt.
    """
    from trainyard.copies import read_stored
    from trainyard.jobs import require_job
    from trainyard.locate import locate
    from trainyard.quantities import utc_now

    run = locate(settings, require_job(name), take_storage_flags(typed))
    catalogue = read_stored(run, directory=directory)
    rows = catalogue.rows(utc_now(), every_byte=verify)
    if best:
        catalogue.pick("best")
    chosen = [row for row in rows if not best or "best" in row.document["keptAs"]]
    show(settings, catalogue.header, chosen, f"{run.name} has saved no checkpoint yet; they will "
         f"lie at {run.storage.uri}")  # fmt: skip
    for reason in catalogue.reasons:
        note(settings, f"set aside: {reason}")
    if broken := [row for row in rows if row.problem]:
        raise CheckpointMissing(
            f"{len(broken)} of {len(catalogue.entries)} checkpoints of {run.name} cannot be used",
            f"trainyard checkpoints {run.name} --verify",
        )
    return Exit.DONE


def show(settings: Settings, header: list[str], rows: "list[Row]", nothing: str) -> None:
    """In the form that was asked for; `nothing` where there are no rows."""
    if settings.is_structured:
        say(render_document(settings, [row.document for row in rows]))
    elif settings.output == "name":
        for row in rows:
            say(row.name)
    elif rows:
        say(render_table(header, [row.cells for row in rows]))
    else:
        note(settings, nothing)
