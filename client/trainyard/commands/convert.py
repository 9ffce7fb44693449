"""`trainyard convert`."""

import shlex
from pathlib import Path

import click

from trainyard.options import Settings, Verb
from trainyard.output import note, render_document, say


@click.command("convert", cls=Verb)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--entrypoint",
    metavar="COMMAND",
    default="",
    help="What the image starts, where the PyTorchJob has no command.",
)
@click.pass_obj
def command(settings: Settings, file: Path, entrypoint: str) -> None:
    """Turn a Kubeflow PyTorchJob into a TrainingJob.

    Prints the job; on stderr a sentence for each field that could not be carried over as it was.

    \b
    trainyard convert pytorchjob.yaml > job.yaml
    """
    import yaml

    from trainyard.convert import convert
    from trainyard.jobfile import validated
    from trainyard.yamltext import Located, read_yaml

    found = convert(read_yaml(file).value, tuple(shlex.split(entrypoint)))
    validated(Located(found.manifest, str(file)))
    if settings.is_structured:
        say(render_document(settings, {"job": found.manifest, "notes": found.notes}))
        return
    for sentence in found.notes:
        note(settings, sentence)
    say(yaml.safe_dump(found.manifest, sort_keys=False, width=100).rstrip())
