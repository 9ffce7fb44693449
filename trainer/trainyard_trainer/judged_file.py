"""Evaluate a file of weights in this process, without a job."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard_trainer.card import Card
from trainyard_trainer.distributed import World
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.evaluation import Evaluator, samples_of
from trainyard_trainer.finale import PREFIXES
from trainyard_trainer.gang import Gang
from trainyard_trainer.metrics import prefixed
from trainyard_trainer.stepper import DTYPES
from trainyard_trainer.trained import open_trained


def judge_file(
    card: Card,
    overrides: Sequence[str] = (),
    *,
    weights: Path,
    data_path: Path | None,
    split: str = "test",
) -> dict[str, float]:
    """Metrics of a split, as a run's final evaluation has them.

    overrides: `key=value`. weights: as `model.pt` of a checkpoint. data_path: None means where the
    run found its data. Raises ConfigurationError where these do not fit the network, the data set
    has other labels than the run's, or the split has no samples.
    """
    unlabelled = card.model_copy(update={"labels": None})
    place = data_path or card.data_path
    with open_trained(unlabelled, weights, overrides, data_path=place) as trained:
        recipe, device = trained.recipe, trained.recipe.site.device
        _refuse_other_labels(card, recipe.labels())
        world = World(rank=0, world_size=1, device=device, gang=Gang())
        stage = recipe.stages()[-1]
        data = recipe.build_data(stage)
        recipe.begin_stage(stage, data)
        if len(samples_of(data, split)) == 0:
            raise ConfigurationError(f"--split: '{split}' has no samples; name another.")
        training = recipe.config.training
        size = training.evaluation_batch_size or training.batch_size
        evaluator = Evaluator(recipe, world, size, DTYPES[training.precision])
        found = evaluator.run(split, data, trained.modules, lambda: False)
    assert found is not None  # noqa: S101
    return prefixed(PREFIXES[split], found[1])


def _refuse_other_labels(card: Card, found: Mapping[str, Sequence[str]]) -> None:
    for kind, names in (card.labels or {}).items():
        if list(found[kind]) != list(names):
            raise ConfigurationError(
                f"--dataset: its {kind} are {', '.join(found[kind])}, and the weights are for "
                f"{', '.join(names)}; name the run's data set or one of the same {kind}."
            )
