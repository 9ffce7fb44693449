"""`trainyard recipes`."""

import click

from trainyard.options import Settings, Verb
from trainyard.output import render_document, render_table, say


@click.command("recipes", cls=Verb)
@click.pass_obj
def command(settings: Settings) -> None:
    """List the recipes that this installation can run."""
    from trainyard_trainer import registry

    rows = []
    for name in registry.recipe_names():
        text = (registry.config_class(name).__doc__ or "").strip().splitlines()
        rows.append({"name": name, "description": text[0] if text else ""})
    if settings.is_structured:
        say(render_document(settings, rows))
    elif settings.output == "name":
        say("\n".join(row["name"] for row in rows))
    else:
        say(render_table(["NAME", "CONFIGURATION"], [list(row.values()) for row in rows]))
