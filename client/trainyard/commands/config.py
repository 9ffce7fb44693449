"""`trainyard config show|check`."""

from typing import Any

import click

from trainyard.commands.arguments import (
    assignments_argument,
    config_file_option,
    target_argument,
)
from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, say


@click.group("config")
def command() -> None:
    """Show or check the configuration of a job."""


@command.command("show", cls=Verb)
@target_argument()
@assignments_argument()
@config_file_option()
@click.pass_obj
def show(settings: Settings, **typed: Any) -> None:
    """Print everything that a recipe will be told, defaults included, with what each key means."""
    from trainyard.errors import UsageError
    from trainyard.jobfile import Request, load_job
    from trainyard_trainer import config, config_text, registry

    spec = load_job(Request(**typed)).job.spec
    if spec.recipe is None:
        raise UsageError("the job runs a command, which has no configuration here")
    found = registry.config_class(spec.recipe)
    built = config.build_config(found, [spec.config or {}], spec.overrides or [])
    if settings.is_structured:
        say(render_document(settings, built.model_dump(mode="json")))
        return
    spellings = config_text.render_spellings(found.aliases)
    say((config_text.render_config(found, built) + spellings).rstrip())


@command.command("check", cls=Verb)
@target_argument()
@assignments_argument()
@config_file_option()
@click.pass_obj
def check(settings: Settings, **typed: Any) -> None:
    """Check a job or a sweep as `submit` would, without a cluster. Exit code 5 if it is invalid.

    Says how keys were read that are not in the recipe's own spelling.

    \b
    trainyard config check job.yaml
    trainyard config check classification --config guide.yaml fold=1
    """
    from trainyard.jobfile import Request, load_job
    from trainyard.sweepfile import is_sweep_file, load_sweep
    from trainyard_operator.sweep.names import trials_text
    from trainyard_operator.sweep.search import trials_in_all
    from trainyard_trainer import config, registry

    if is_sweep_file(typed["target"]):
        found = load_sweep(Request(**typed))
        for notice in found.notices:
            note(settings, notice)
        sweep = found.sweep
        count = trials_text(trials_in_all(sweep.spec))
        told = f"sweep '{sweep.metadata.name}' is valid, of {count}"
        note(settings, f"{typed['target']}: {told}")
        return
    job = load_job(Request(**typed)).job
    if job.spec.recipe in registry.recipe_names():
        recipe = registry.config_class(job.spec.recipe)
        layers = config.read_layers(recipe, [job.spec.config or {}], job.spec.overrides or [])
        for notice in (notice for layer in layers for notice in layer.notices):
            say(notice)
    note(settings, f"{typed['target']}: job '{job.metadata.name}' is valid")
