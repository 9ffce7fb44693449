"""`trainyard export`."""

import tempfile
from pathlib import Path
from typing import Any

import click

from trainyard.commands.arguments import model_options, storage_options, take_storage_flags
from trainyard.options import Settings, Verb
from trainyard.output import render_document, render_table, say


@click.command("export", cls=Verb)
@model_options()
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the programs; made if absent.",
)
@storage_options(short_file=False)
@click.pass_obj
def command(settings: Settings, source: str, which: str, directory: Path, **typed: Any) -> None:
    """Write a trained model's networks as programs of torch.export, which need torch alone.

    MODEL is a job, the s3:// or file:// URI of a run, or a fetched checkpoint. Each program is read
    back and must compute what its network does on random input, to 1e-4 of the largest output.

    \b
    trainyard export skin-b3 -d out     # out/model.pt2
    torch.export.load("out/model.pt2").module()(images)
    """
    from trainyard.models import find_model
    from trainyard_trainer.export import export_networks
    from trainyard_trainer.trained import open_trained

    flags = take_storage_flags(typed)
    with tempfile.TemporaryDirectory() as folder:
        model = find_model(settings, source, which, flags, Path(folder))
        with open_trained(model.card, model.weights) as trained:
            found = list(export_networks(trained, directory))
    batches = {True: "any", False: "1"}
    rows = [
        [
            str(one.file),
            "x".join([batches[one.has_any_batch], *map(str, one.input_shape)]),
            f"{one.difference:.2g}",
        ]
        for one in found
    ]
    if settings.is_structured:
        keys = ("file", "input", "difference")
        say(render_document(settings, [dict(zip(keys, row, strict=True)) for row in rows]))
    else:
        say(render_table(["FILE", "INPUT", "DIFFERENCE"], rows))
