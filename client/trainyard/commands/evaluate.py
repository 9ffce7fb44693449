"""`trainyard evaluate`."""

from pathlib import Path
from typing import Any

import click

from trainyard.commands.arguments import assignments_argument, config_file_option
from trainyard.options import Settings, Verb
from trainyard.output import render_document, render_table, say


@click.command("evaluate", cls=Verb)
@click.argument("recipe")
@assignments_argument()
@config_file_option()
@click.option(
    "--checkpoint",
    "weights",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="File with the weights: model.pt of `fetch`, or a .pt or .ckpt of `fetch --what run`.",
)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of the data. Default: data.path of the configuration.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
)
@click.pass_obj
def command(settings: Settings, recipe: str, weights: Path, split: str, **typed: Any) -> None:
    """Evaluate weights on this machine; prints the metrics.

    The configuration must be that of the run, as far as network and data go: give its hparams.yaml
    or config.yaml as --config.

    \b
    trainyard evaluate skin-lesion --checkpoint last.ckpt --config hparams.yaml --dataset data
    """
    from trainyard.jobfile import Request, load_job
    from trainyard_trainer.judged_file import judge_file

    words, file = typed["assignments"], typed["config_file"]
    spec = load_job(Request(target=recipe, assignments=words, config_file=file)).job.spec
    metrics = judge_file(
        spec.recipe or recipe,
        [spec.config or {}],
        spec.overrides or [],
        weights=weights,
        data_path=typed["dataset"],
        split=split,
    )
    if settings.is_structured:
        say(render_document(settings, metrics))
    else:
        say(render_table(["METRIC", "VALUE"], [[k, f"{v:.6g}"] for k, v in metrics.items()]))
