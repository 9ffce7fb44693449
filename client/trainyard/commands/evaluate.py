"""`trainyard evaluate`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard.commands.arguments import (
    assignments_argument,
    config_file_option,
    storage_options,
    take_storage_flags,
)
from trainyard.options import Settings, StorageFlags, Verb
from trainyard.output import render_document, render_table, say

if TYPE_CHECKING:
    from trainyard.models import Model


@click.command("evaluate", cls=Verb)
@click.argument("target", metavar="JOB|URI|CHECKPOINT|RECIPE")
@assignments_argument()
@config_file_option()
@click.option(
    "--checkpoint",
    default="best",
    show_default=True,
    metavar="best|latest|STEP|FILE",
    help="Which one of a job. With a FILE of weights, such as a .ckpt of `fetch --what run`, the "
    "first argument is a recipe or a job's file.",
)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of the data. Default: where the run found it, or data.path.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
)
@storage_options(short_file=False)
@click.pass_obj
def command(
    settings: Settings, target: str, checkpoint: str, dataset: Path | None, **typed: Any
) -> None:
    """Evaluate a trained model on this machine; prints the metrics.

    A run's model.json says what was trained. A bare file of weights needs the configuration of its
    run, as far as network and data go: its hparams.yaml or config.yaml as --config.

    \b
    trainyard evaluate skin-b3 --dataset data
    trainyard evaluate skin-lesion --checkpoint last.ckpt --config hparams.yaml --dataset data

    As a job, whose result.json has the metrics:

    \b
    trainyard submit skin-lesion training.evaluate_only=true --name judged \\
        spec.checkpoint.resumeFrom.job=skin-b3 spec.checkpoint.resumeFrom.checkpoint=best
    """
    from trainyard_trainer.judged_file import judge_file

    flags, words = take_storage_flags(typed), typed["assignments"]
    with tempfile.TemporaryDirectory() as folder:
        if Path(checkpoint).is_file():
            model = _of_file(target, Path(checkpoint), words, typed["config_file"])
            overrides: Sequence[str] = ()
        else:
            model = _of_run(settings, target, checkpoint, flags, Path(folder))
            overrides = words
        metrics = judge_file(
            model.card,
            overrides,
            weights=model.weights,
            data_path=dataset,
            split=typed["split"],
        )
    if settings.is_structured:
        say(render_document(settings, metrics))
    else:
        say(render_table(["METRIC", "VALUE"], [[k, f"{v:.6g}"] for k, v in metrics.items()]))


def _of_file(target: str, weights: Path, words: Sequence[str], file: Path | None) -> "Model":
    from trainyard.jobfile import Request, load_job
    from trainyard.models import Model
    from trainyard_trainer import config, registry
    from trainyard_trainer.card import Card

    spec = load_job(Request(target=target, assignments=tuple(words), config_file=file)).job.spec
    recipe = spec.recipe or target
    found = config.build_config(
        registry.config_class(recipe), [spec.config or {}], spec.overrides or []
    )
    return Model(card=Card(recipe=recipe, config=found.model_dump(mode="json")), weights=weights)


def _of_run(
    settings: Settings, target: str, which: str, flags: StorageFlags, folder: Path
) -> "Model":
    from trainyard.errors import NotFound
    from trainyard.models import find_model
    from trainyard_trainer import registry

    try:
        return find_model(settings, target, which, flags, folder)
    except NotFound as error:
        if target in registry.recipe_names():
            raise NotFound(
                f"there is no run '{target}', and recipe '{target}' alone has no weights",
                f"trainyard evaluate {target} --checkpoint FILE --config FILE",
            ) from error
        raise
