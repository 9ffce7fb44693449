"""Growing patches, large nodules first, a frozen encoder, and one schedule over all of them."""

from typing import Any

import pytest

from trainyard_trainer.config import build_config
from trainyard_trainer.recipe import Stage
from trainyard_trainer.recipes.lung_nodule.config import Config
from trainyard_trainer.recipes.lung_nodule.stages import Continued, plan
from trainyard_trainer.schedule import Shape

TRAINABLE = ("model.decoder", "model.heatmap")


def stages(training: dict[str, Any]) -> list[Stage]:
    return plan(build_config(Config, [{"training": training}]), TRAINABLE)


def test_without_any_of_them_there_is_one_stage() -> None:
    (stage,) = stages({"epochs": 7, "batch_size": 2, "accumulation_steps": 4})
    assert stage == Stage(
        name="train",
        epochs=7,
        batch_size=8,
        micro_batch_size=2,
        options={
            "patch_size": (128, 128, 128),
            "min_diameter": 0.0,
            "first_epoch": 0,
            "total_epochs": 7,
        },
    )


def test_progressive_stages_are_the_guides() -> None:
    found = stages({"progressive": {"enabled": True}})
    assert [(s.epochs, s.options["patch_size"], s.batch_size) for s in found] == [
        (30, (64, 64, 64), 8),
        (40, (96, 96, 96), 4),
        (30, (128, 128, 128), 2),
    ]
    assert [stage.name for stage in found] == ["1-64x64x64", "2-96x96x96", "3-128x128x128"]


def test_curriculum_stages_are_the_guides() -> None:
    found = stages({"curriculum": {"enabled": True, "strategy": "size_based"}})
    assert [(s.epochs, s.options["min_diameter"]) for s in found] == [(20, 10), (30, 5), (50, 0)]


def test_the_encoder_is_frozen_for_its_epochs_and_then_learns() -> None:
    found = stages({"epochs": 25, "pretrained": {"checkpoint": "a.pt", "freeze_encoder": True}})
    assert [(s.epochs, s.trainable) for s in found] == [(10, TRAINABLE), (15, None)]
    assert [s.options.get("is_frozen") for s in found] == [True, None]


def test_plans_are_laid_over_one_another() -> None:
    found = stages(
        {
            "progressive": {
                "stages": [
                    {"epochs": 3, "patch_size": [64, 64, 64]},
                    {"epochs": 3, "patch_size": [128, 128, 128]},
                ]
            },
            "curriculum": {
                "stages": [
                    {"epochs": 4, "min_diameter": 5},
                    {"epochs": 4, "min_diameter": 0},
                ]
            },
            "pretrained": {"checkpoint": "a.pt", "freeze_encoder": True, "freeze_epochs": 1},
        }
    )
    assert [
        (s.name, s.epochs, s.options["patch_size"][0], s.options["min_diameter"]) for s in found
    ] == [
        ("1-64x64x64-from5mm-frozen", 1, 64, 5),
        ("2-64x64x64-from5mm", 2, 64, 5),
        ("3-128x128x128-from5mm", 1, 128, 5),
        ("4-128x128x128-from0mm", 4, 128, 0),
    ]
    assert [s.options["first_epoch"] for s in found] == [0, 1, 3, 4]
    assert {s.options["total_epochs"] for s in found} == {8}


@pytest.mark.parametrize("name", ["progressive", "curriculum"])
def test_a_plan_that_is_switched_off_does_nothing(name: str) -> None:
    assert len(stages({name: {"enabled": False}})) == 1


def test_cosine_with_warm_up_has_the_pages_values() -> None:
    schedule = build_config(
        Config,
        [{"training": {"lr_scheduler": {"type": "cosine", "warmup_epochs": 5, "min_lr": 1e-5}}}],
    ).training.schedule
    shape = Shape(schedule, 1e-3, 100, steps_per_epoch=3)
    rates = {epoch: 1e-3 * shape.factor(3 * epoch) for epoch in (0, 4, 99)}
    assert rates == pytest.approx({0: 2e-4, 4: 1e-3, 99: 1.0271e-5}, rel=1e-4)


def test_a_schedule_goes_on_over_stages_of_other_lengths() -> None:
    schedule = build_config(Config, [{"training": {"lr_scheduler": "cosine"}}]).training.schedule
    whole = [Shape(schedule, 1e-3, 10, 1).factor(epoch) for epoch in range(10)]
    early = Continued(Shape(schedule, 1e-3, 10, 4), first_epoch=0, steps_per_epoch=4)
    late = Continued(Shape(schedule, 1e-3, 10, 7), first_epoch=6, steps_per_epoch=7)
    parts = [early.factor(4 * epoch) for epoch in range(6)]
    parts += [late.factor(7 * epoch) for epoch in range(4)]
    assert parts == pytest.approx(whole)
