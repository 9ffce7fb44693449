"""`trainyard predict`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard.commands.arguments import model_options, storage_options, take_storage_flags
from trainyard.errors import UsageError
from trainyard.options import Settings, Verb
from trainyard.output import render_document, say

if TYPE_CHECKING:
    from trainyard_trainer.predictions import Prediction
    from trainyard_trainer.trained import Trained


@click.command("predict", cls=Verb)
@model_options()
@click.argument("words", metavar="FILE... [key=value]...", nargs=-1, required=True)
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the table and the files of the results. Default: the table goes to stdout.",
)
@storage_options(short_file=False)
@click.pass_obj
def command(
    settings: Settings,
    source: str,
    which: str,
    words: tuple[str, ...],
    directory: Path | None,
    **typed: Any,
) -> None:
    """Let a trained model look at new files, on this machine.

    MODEL is a job, the s3:// or file:// URI of a run, or a fetched checkpoint; its bytes are
    compared with their SHA-256 first. key=value are options of the recipe: docs/predict.md.

    \b
    trainyard predict skin-b3 new/*.jpg tta=4
    trainyard predict nodules scan.mhd tta=true -d found
    trainyard predict csr chest.dicom 'reject=[Pneumothorax]' maps=true -d out
    """
    from trainyard.models import find_model
    from trainyard_trainer.trained import open_trained

    files = [Path(word) for word in words if not _is_option(word)]
    if not files:
        raise UsageError("names no file to look at", "trainyard predict --help")
    flags, options = take_storage_flags(typed), [word for word in words if _is_option(word)]
    with tempfile.TemporaryDirectory() as folder:
        model = find_model(settings, source, which, flags, Path(folder))
        with open_trained(model.card, model.weights) as trained:
            found = _look_at(trained, files, options, directory)
    _show(settings, found, directory)


def _is_option(word: str) -> bool:
    return "=" in word and not Path(word).exists()


def _look_at(
    trained: "Trained", files: Sequence[Path], options: Sequence[str], directory: Path | None
) -> "list[Prediction]":
    """Write each file's results as they come."""
    found, written = [], set()
    for prediction in trained.predict(files, options):
        found.append(prediction)
        for name, data in prediction.files.items():
            if directory is None:
                raise UsageError(
                    "the results are files, and there is no folder for them",
                    "the same command with -d FOLDER",
                )
            if name in written:
                raise UsageError(
                    f"two of the files would be written to '{directory / name}'",
                    "the same command for each of them, with another -d",
                )
            written.add(name)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
    return found


def _show(settings: Settings, found: "Sequence[Prediction]", directory: Path | None) -> None:
    from trainyard_trainer.predictions import TABLE_FILE, build_table

    table = build_table(found)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / TABLE_FILE).write_text(table)
    if settings.is_structured:
        rows = [dict(zip(one.columns, row, strict=True)) for one in found for row in one.rows]
        say(render_document(settings, {"predictions": rows}))
    else:
        say(table.rstrip("\n") if directory is None else str(directory / TABLE_FILE))
