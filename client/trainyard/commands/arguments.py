"""Arguments and options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from trainyard.options import StorageFlags

Decorator = Callable[[Any], Any]


def complete_job(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of this machine's runs: a cluster would take too long to ask."""
    from trainyard.state import state_directory

    jobs = {folder.name for folder in (state_directory() / "jobs").glob("*")}
    sweeps = {f"sweep/{folder.name}" for folder in (state_directory() / "sweeps").glob("*")}
    return ["@last", *sorted(name for name in jobs | sweeps if name.startswith(incomplete))]


def complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Files; a recipe's name takes an import too many."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def job_argument(**kwargs: Any) -> Decorator:
    """JOB: a name, @last, or sweep/NAME where the command knows sweeps."""
    return click.argument("name", metavar="JOB", shell_complete=complete_job, **kwargs)


def target_argument() -> Decorator:
    """FILE|RECIPE."""
    return click.argument("target", metavar="FILE|RECIPE", shell_complete=complete_target)


def assignments_argument() -> Decorator:
    """key=value, any number of them; after `--`, also as --key value."""
    return click.argument("assignments", metavar="[key=value]...", nargs=-1)


def config_file_option() -> Decorator:
    """A file that holds the recipe's configuration alone."""
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The recipe's configuration, such as one copied from a guide; key=value beats it.",
    )


def guide_option() -> Decorator:
    """A guide's sweep file beside a job's."""
    return click.option(
        "--sweep",
        "guide",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A sweep's method, metric and parameters, to run the job with.",
    )


def storage_options(*, short_file: bool = True) -> Decorator:
    """Where to look for what a job stored, once the job is gone; see take_storage_flags.

    short_file: whether -f stands for --file; not where it stands for --follow.
    """
    names = ("-f", "--file") if short_file else ("--file",)
    options = (
        click.option("--storage", metavar="URI", help="Look here: a URI as spec.storage.uri."),
        click.option("--endpoint", metavar="URL", help="Address of the S3 server."),
        click.option("--region", metavar="NAME", help="Region of the bucket."),
        click.option(*names, "file", metavar="FILE", help="Take the storage from a job's file."),
    )

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def take_storage_flags(params: dict[str, Any]) -> StorageFlags:
    """The storage options out of a command's parameters."""
    names = ("storage", "endpoint", "region", "file")
    return StorageFlags(**{name: params.pop(name) for name in names})


def model_options() -> Decorator:
    """MODEL and which of its checkpoints; see models.py."""
    argument = click.argument("source", metavar="MODEL", shell_complete=complete_job)
    option = click.option(
        "--checkpoint",
        "which",
        default="best",
        show_default=True,
        metavar="best|latest|STEP",
        help="Which one of a run.",
    )
    return lambda function: argument(option(function))
