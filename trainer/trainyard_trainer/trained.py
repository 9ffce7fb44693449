"""A model with the weights of a run, outside of any job: to predict with, to judge, to export."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainyard_trainer.card import Card, without
from trainyard_trainer.config import build_config
from trainyard_trainer.distributed import choose_device
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.evaluation import evaluation_mode
from trainyard_trainer.predictions import Prediction, parse_options
from trainyard_trainer.recipe import Modules, Recipe, Site
from trainyard_trainer.registry import load_recipe
from trainyard_trainer.stage_run import prepare_modules
from trainyard_trainer.stepper import DTYPES


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A recipe without a run, and its modules."""

    recipe: Recipe[Any]
    modules: Modules

    def predict(self, files: Sequence[Path], options: Sequence[str] = ()) -> Iterator[Prediction]:
        """One for each file, in their order. Raises ConfigurationError naming file or option."""
        told = parse_options(self.recipe.prediction_options, options)
        dtype = DTYPES[self.recipe.config.training.precision]
        device = self.recipe.site.device.type
        for file in files:
            if not file.exists():
                raise ConfigurationError(f"there is no file '{file}'; correct the name.")
            autocast = torch.autocast(device, dtype=dtype, enabled=dtype is not None)
            with evaluation_mode(self.modules), torch.no_grad(), autocast:
                yield self.recipe.predict(self.modules, file, told)


@contextmanager
def open_trained(
    card: Card,
    weights: Path,
    overrides: Sequence[str] = (),
    *,
    data_path: Path | None = None,
) -> Iterator[Trained]:
    """The model of `card` with its weights, as the last stage of its run left it.

    weights: as `model.pt` of a checkpoint, from a place that is trusted to have verified it; what
    is read is tensors alone (weights_only). data_path: where a data set is needed, too.

    Raises ConfigurationError where weights and card do not belong together.
    """
    cls = load_recipe(card.recipe)
    layer = without(card.config, cls.initial_weights)
    config = build_config(cls.config_class, [layer], overrides)
    device = choose_device(config.training.device, 0)
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(
            data_path=data_path or config.data.path,
            scratch=Path(scratch),
            device=device,
            seed=config.training.seed,
            labels=card.labels,
        )
        recipe = cls(config, site)
        modules = prepare_modules(recipe, device)
        load_weights(modules, weights)
        recipe.position.stage = recipe.stages()[-1]
        yield Trained(recipe=recipe, modules=modules)


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
