"""`trainyard version`."""

import click

from trainyard import __version__
from trainyard.options import Settings, Verb
from trainyard.output import render_document, say


@click.command("version", cls=Verb, short_help="Print the version.")
@click.pass_obj
def command(settings: Settings) -> None:
    """Print the version of this client and of its API."""
    from trainyard_operator.contract import API_VERSION

    if settings.is_structured:
        say(render_document(settings, {"version": __version__, "apiVersion": API_VERSION}))
    else:
        say(f"trainyard {__version__} ({API_VERSION})")
