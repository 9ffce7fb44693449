"""Evaluate a file of weights in this process, without a job."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainyard_trainer.config import build_config
from trainyard_trainer.distributed import World, choose_device
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.evaluation import Evaluator, samples_of
from trainyard_trainer.finale import PREFIXES
from trainyard_trainer.gang import Gang
from trainyard_trainer.metrics import prefixed
from trainyard_trainer.recipe import Modules, Site
from trainyard_trainer.registry import load_recipe
from trainyard_trainer.stage_run import prepare_modules
from trainyard_trainer.stepper import DTYPES


def judge_file(
    recipe_name: str,
    layers: Sequence[Mapping[str, Any]],
    overrides: Sequence[str],
    *,
    weights: Path,
    data_path: Path | None,
    split: str = "test",
) -> dict[str, float]:
    """Metrics of a split, as a run's final evaluation has them.

    layers, overrides: see `config.build_config`. weights: as `model.pt` of a checkpoint. Raises
    ConfigurationError where these do not fit the network, or the split has no samples.
    """
    cls = load_recipe(recipe_name)
    config = build_config(cls.config_class, layers, overrides)
    training = config.training
    device = choose_device(training.device, 0)
    world = World(rank=0, world_size=1, device=device, gang=Gang())
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(
            data_path=data_path or config.data.path,
            scratch=Path(scratch),
            device=device,
            seed=training.seed,
        )
        recipe = cls(config, site)
        modules = prepare_modules(recipe, device)
        load_weights(modules, weights)
        stage = recipe.stages()[-1]
        data = recipe.build_data(stage)
        recipe.begin_stage(stage, data)
        if len(samples_of(data, split)) == 0:
            raise ConfigurationError(f"--split: '{split}' has no samples; name another.")
        size = training.evaluation_batch_size or training.batch_size
        evaluator = Evaluator(recipe, world, size, DTYPES[training.precision])
        found = evaluator.run(split, data, modules, lambda: False)
    assert found is not None  # noqa: S101
    return prefixed(PREFIXES[split], found[1])


def load_weights(modules: Modules, file: Path) -> None:
    """One state dict for an only module, else one by its name. Raises ConfigurationError."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        by_name = dict.fromkeys(modules, state) if len(modules) == 1 else state
        for name, module in modules.items():
            module.load_state_dict(by_name[name])
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(
            f"--checkpoint: '{file}' does not hold weights of this network ({reason}); give the "
            "configuration that it was trained with."
        ) from error
