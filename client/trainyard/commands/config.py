"""`trainyard config show|check`."""

from typing import Any

import click

from trainyard.commands.arguments import assignments_argument, target_argument
from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, say


@click.group("config")
def command() -> None:
    """Show or check the configuration of a job."""


@command.command("show", cls=Verb)
@target_argument()
@assignments_argument()
@click.pass_obj
def show(settings: Settings, **typed: Any) -> None:
    """Print everything that a recipe will be told, defaults included."""
    import dataclasses

    from trainyard.errors import UsageError
    from trainyard.jobfile import Request, load_job
    from trainyard_trainer import config, registry

    job = load_job(Request(**typed)).job
    if job.spec.recipe is None:
        raise UsageError("the job runs a command, which has no configuration here")
    found = registry.config_class(job.spec.recipe)
    built = config.build_config(found, [job.spec.config or {}], job.spec.overrides or [])
    if not settings.is_structured:
        settings = dataclasses.replace(settings, output="yaml")
    say(render_document(settings, built.model_dump(mode="json")))


@command.command("check", cls=Verb)
@target_argument()
@assignments_argument()
@click.pass_obj
def check(settings: Settings, **typed: Any) -> None:
    """Check a job as `submit` would, without a cluster. Exit code 5 if it is invalid."""
    from trainyard.jobfile import Request, load_job

    job = load_job(Request(**typed)).job
    note(settings, f"{typed['target']}: job '{job.metadata.name}' is valid")
