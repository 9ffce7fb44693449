from pathlib import Path
from typing import Any

import pytest
from skin_images import SMALL, make_recipe, write_set
from torch import nn

from trainyard_trainer.recipes.skin_lesion.config import ModelConfig, SkinTrainingConfig
from trainyard_trainer.recipes.skin_lesion.plan import build_stages, frozen_parts
from trainyard_trainer.stage_run import learning, set_trainable

RESNET = ModelConfig(name="resnet")


def stages(**training: Any) -> list[tuple[str, int, int]]:
    config = SkinTrainingConfig(**{"epochs": 50} | training)
    return [
        (stage.name, stage.epochs, len(frozen_parts(stage, RESNET)))
        for stage in build_stages(config, RESNET)
    ]


def test_plain_training_is_one_stage() -> None:
    assert stages() == [("train", 50, 0)]


def test_frozen_backbone_comes_first() -> None:
    assert stages(freeze_backbone_epochs=5) == [("frozen_5_of_5", 5, 6), ("train", 45, 0)]


def test_progressive_unfreezing_goes_from_the_end_to_the_beginning() -> None:
    assert stages(progressive_unfreezing=True) == [
        ("frozen_5_of_5", 5, 6),
        ("frozen_3_of_5", 5, 4),
        ("frozen_1_of_5", 5, 2),
        ("train", 35, 0),
    ]


def test_epochs_of_the_schedule_that_do_not_come_leave_parts_frozen() -> None:
    assert stages(epochs=7, progressive_unfreezing=True) == [
        ("frozen_5_of_5", 5, 6),
        ("frozen_3_of_5", 2, 4),
    ]


def test_accumulation_makes_a_step_of_several_batches() -> None:
    (stage,) = build_stages(SkinTrainingConfig(batch_size=16, accumulate_grad_batches=4), RESNET)
    assert (stage.batch_size, stage.micro_batch_size) == (64, 16)


@pytest.mark.parametrize("name", ["baseline_cnn", "resnet"])
def test_frozen_stage_trains_the_head_alone_and_leaves_statistics(
    tmp_path: Path, name: str
) -> None:
    write_set(tmp_path)
    words = (f"model={name}", "training.freeze_backbone_epochs=2", "training.max_epochs=5")
    recipe = make_recipe(tmp_path, SMALL, *words)
    modules = recipe.build_modules()
    network = modules["model"].train()
    before = learning(modules)
    frozen, full = recipe.stages()
    set_trainable(modules, frozen, before)
    recipe.begin_stage(frozen, recipe.build_data(frozen))
    head = "fc" if name == "resnet" else "classifier"
    trainable = {n for n, p in network.named_parameters() if p.requires_grad}
    assert trainable == {n for n, _ in network.named_parameters() if n.startswith(head)}
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    (group,) = recipe.build_optimizers(frozen, modules)["main"].param_groups
    assert group["lr"] == 1e-3
    set_trainable(modules, full, before)
    rates = [g["lr"] for g in recipe.build_optimizers(full, modules)["main"].param_groups]
    assert rates == pytest.approx([1e-3, 1e-4])
