"""`trainyard synth`."""

import importlib
from pathlib import Path

import click

from trainyard.options import Settings, Verb
from trainyard.output import render_document, say


@click.command("synth", cls=Verb)
@click.argument("recipe")
@click.option(
    "--out", "directory", required=True, type=click.Path(path_type=Path), help="Made if absent."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything drawn.")
@click.argument("flags", metavar="[-- FLAGS]...", nargs=-1)
@click.pass_obj
def command(
    settings: Settings, recipe: str, directory: Path, seed: int, flags: tuple[str, ...]
) -> None:
    """Write stand-in data for a recipe, in the layout of its real data; prints where it lies.

    SYNTHETIC.json beside it marks it as such: scores on it show that the plumbing works, and no
    more. After `--`, flags of the recipe's own generator; `-- --help` lists them.

    \b
    trainyard synth classification --out data/shapes
    """
    from trainyard.errors import ClientError, UsageError
    from trainyard_trainer import registry

    module = f"{registry.recipe_package(recipe)}.synth"
    try:
        generator = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise UsageError(f"recipe '{recipe}' has no generator of data") from error
        raise ClientError(
            f"the generator needs {error.name}, which is not installed",
            "pip install 'trainyard[recipes]'",
        ) from error
    generator.main([str(directory), "--seed", str(seed), *flags])
    if settings.is_structured:
        say(render_document(settings, {"directory": str(directory)}))
