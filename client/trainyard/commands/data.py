"""`trainyard data digits`."""

from pathlib import Path

import click

from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, say


@click.group("data")
def command() -> None:
    """Make small data sets to try things with."""


@command.command("digits", cls=Verb)
@click.argument("directory", type=click.Path(path_type=Path))
@click.pass_obj
def digits(settings: Settings, directory: Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits as an image folder, without a download."""
    from trainyard.errors import ClientError

    try:
        from trainyard_trainer.digits import write_digits
    except ModuleNotFoundError as error:
        raise ClientError(
            f"the digits need {error.name}, which is not installed",
            "pip install 'trainyard[trainer,digits]'",
        ) from error
    counts = write_digits(directory)
    if settings.is_structured:
        say(render_document(settings, {"directory": str(directory), "images": counts}))
        return
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    note(settings, f"{sum(counts.values())} images: {listed}")
    say(str(directory))
