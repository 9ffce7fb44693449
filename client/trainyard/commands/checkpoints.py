"""`trainyard checkpoints`."""

from typing import Any

import click

from trainyard.commands.arguments import job_argument, storage_options, take_storage_flags
from trainyard.errors import CheckpointMissing, Exit
from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, render_table, say


@click.command("checkpoints", cls=Verb)
@job_argument(required=False)
@click.option("--best", is_flag=True, help="Only the best one.")
@click.option("--verify", is_flag=True, help="Read every byte, not only the sizes.")
@storage_options()
@click.pass_obj
def command(settings: Settings, name: str | None, best: bool, verify: bool, **typed: Any) -> int:
    """List a job's checkpoints; with --storage, without job and cluster.

    Exit code 12 if one of them is corrupt.
    """
    from trainyard import checkpoints
    from trainyard.jobs import require_job
    from trainyard.locate import locate
    from trainyard.quantities import utc_now

    run = locate(settings, require_job(name), take_storage_flags(typed))
    catalogue = checkpoints.read_catalogue(run)
    check = checkpoints.check_bytes if verify else checkpoints.check_sizes
    problems = check(catalogue)
    verified = {key: text or ("yes" if verify else "sizes") for key, text in problems.items()}
    chosen = [catalogue.pick("best")] if best else list(catalogue.listing.valid)
    if settings.is_structured:
        items = [checkpoints.to_dict(catalogue, m, verified[m.prefix]) for m in chosen]
        say(render_document(settings, items))
    elif settings.output == "name":
        for manifest in chosen:
            say(str(manifest.step))
    elif chosen:
        header, rows = checkpoints.table(catalogue, verified, utc_now())
        wanted = [row for row, m in zip(rows, catalogue.listing.valid, strict=True) if m in chosen]
        say(render_table(header, wanted))
    else:
        note(
            settings, f"{run.name} has saved no checkpoint yet; they will lie at {run.storage.uri}"
        )
    for rejected in catalogue.listing.rejected:
        note(settings, f"set aside: {rejected.reason}")
    broken = sorted(key for key, text in problems.items() if text)
    if broken:
        raise CheckpointMissing(
            f"{len(broken)} of {len(problems)} checkpoints of {run.name} cannot be used",
            f"trainyard checkpoints {run.name} --verify",
        )
    return Exit.DONE
