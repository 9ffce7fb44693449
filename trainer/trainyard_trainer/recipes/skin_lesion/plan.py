"""The stages of a run: which parts of the network learn, for how many epochs, and how fast."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from trainyard_trainer.recipe import Stage
from trainyard_trainer.recipes.skin_lesion.config import ModelConfig, SkinTrainingConfig
from trainyard_trainer.recipes.skin_lesion.model import HEADS, backbone_units


def build_stages(training: SkinTrainingConfig, model: ModelConfig) -> list[Stage]:
    """One stage unless something is frozen at first.

    The head always learns. With freeze_backbone_epochs the whole backbone follows; with
    progressive_unfreezing its parts follow from its end to its beginning, one at each epoch of the
    schedule.
    """
    units = backbone_units(model)
    if training.progressive_unfreezing:
        bounds = [epoch for epoch in training.unfreeze_schedule if epoch < training.epochs]
        parts = len(training.unfreeze_schedule)
        frozen = [len(units) * (parts - done) // parts for done in range(len(bounds) + 1)]
    elif training.freeze_backbone_epochs:
        bounds, frozen = [training.freeze_backbone_epochs], [len(units), 0]
    else:
        bounds, frozen = [], [0]
    begins = [0, *bounds]
    ends = [*bounds, training.epochs]
    return [
        _stage(training, model, end - begin, count)
        for begin, end, count in zip(begins, ends, frozen, strict=True)
    ]


def frozen_parts(stage: Stage, model: ModelConfig) -> list[str]:
    """Modules of the network that do not learn in a stage."""
    count = stage.options["frozen_units"]
    return [name for unit in backbone_units(model)[:count] for name in unit]


def parameter_groups(
    network: nn.Module, model: ModelConfig, training: SkinTrainingConfig
) -> list[dict[str, Any]]:
    """Head and backbone, of each what learns now; the backbone slower where it was frozen."""
    head = f"{HEADS[model.name]}."
    by_part: Mapping[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            by_part[name.startswith(head)].append(parameter)
    was_frozen = training.progressive_unfreezing or training.freeze_backbone_epochs > 0
    factor = training.unfreeze_lr_factor if was_frozen else 1.0
    groups: list[dict[str, Any]] = [{"params": by_part[True], "lr": training.learning_rate}]
    if by_part[False]:
        rate = training.learning_rate * factor
        groups.append({"params": by_part[False], "lr": rate})
    return groups


def _stage(training: SkinTrainingConfig, model: ModelConfig, epochs: int, frozen: int) -> Stage:
    units = backbone_units(model)
    learns = [name for unit in units[frozen:] for name in unit]
    everything = frozen == 0
    names = tuple(f"model.{name}" for name in [*learns, HEADS[model.name]])
    return Stage(
        name="train" if everything else f"frozen_{frozen}_of_{len(units)}",
        epochs=epochs,
        trainable=None if everything else names,
        batch_size=training.batch_size * training.accumulate_grad_batches,
        micro_batch_size=training.batch_size if training.accumulate_grad_batches > 1 else None,
        options={"frozen_units": frozen},
    )
