"""Stages and several optimizers: one mechanism, resumed exactly at every step."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from unit.engine.tiny import (
    Tiny,
    TinyGan,
    assert_equal_states,
    manifests_of,
    newest,
    storage_of,
    tiny_rank,
    train,
)

from trainyard_trainer.config import OptimizerConfig
from trainyard_trainer.errors import ConfigurationError, Stopped
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.recipe import Batch, Data, Loss, Metric, Modules, Stage
from trainyard_trainer.registry import recipe
from trainyard_trainer.restore import load_checkpoint
from trainyard_trainer.sampler import ShuffledSampler


class Easy:
    """A curriculum: samples below a bound, then more of them each epoch; pure in epoch."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __len__(self) -> int:
        return 32

    def steps(self, batch_size: int) -> int:
        return ShuffledSampler(32, self._seed).steps(batch_size)

    def take(self, epoch: int, cursor: int, batch_size: int) -> tuple[Tensor, int]:
        return ShuffledSampler(32, self._seed).take(epoch, cursor, batch_size)


@recipe("tiny-plan")
class TinyPlan(Tiny):
    """Three stages: a frozen body and few features, then all with SGD, then a curriculum."""

    def stages(self) -> list[Stage]:
        return [
            Stage(
                name="head",
                epochs=2,
                trainable=("model.4",),
                batch_size=16,
                options={"features": 4},
                best=Metric("val_accuracy", "max"),
            ),
            Stage(name="body", epochs=4, batch_size=16, options={"optimizer": "sgd"}),
            Stage(name="curriculum", epochs=2, batch_size=16, options={"easy": True}),
        ]

    def build_data(self, stage: Stage) -> Data:
        data = super().build_data(stage)
        sampler = Easy(self.site.seed) if stage.options.get("easy") else None
        return Data(
            train=data.train, validation=data.validation, augment=data.augment, sampler=sampler
        )

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        config = OptimizerConfig.model_validate({"name": stage.options.get("optimizer", "adamw")})
        learning = [p for p in modules["model"].parameters() if p.requires_grad]
        return {"main": build_optimizer(learning, config, 0.05)}

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """Few features first, as small images come before large ones."""
        assert self.position.stage is not None
        points, labels, _ = batch
        features = self.position.stage.options.get("features", 8)
        seen = F.pad(points[:, :features], (0, 8 - features))
        yield Loss("main", F.cross_entropy(modules["model"](seen), labels))


PLAN = {
    "schedule": {"name": "plateau", "patience": 0, "gamma": 0.5},
    "early_stopping": {"patience": 2},
    "ema_decay": 0.8,
}


def test_stages_have_optimizers_schedules_and_patience_of_their_own(tmp_path: Path) -> None:
    rank = tiny_rank(
        tmp_path,
        recipe="tiny-plan",
        config={"training": PLAN},
        checkpoint={"keepLast": 99, "async": False},
    )
    train(rank)
    stages = {m.step: m.stage for m in manifests_of(rank)}
    assert list(dict.fromkeys(stages[step] for step in sorted(stages))) == [
        "head",
        "body",
        "curriculum",
    ]
    rows = storage_of(rank).read("metrics.csv").decode().splitlines()
    assert {row.split(",")[2] for row in rows[1:]} == {"head", "body", "curriculum"}
    groups = newest(rank).state["stage"]["optimizers"]["main"]["param_groups"]
    assert "betas" in groups[0]


def total_steps(name: str, config: dict[str, Any], place: Path) -> tuple[Any, int]:
    whole = tiny_rank(place, recipe=name, config=config)
    train(whole)
    return whole, newest(whole).manifest.step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "training"),
    [
        pytest.param("tiny-plan", PLAN, id="three stages"),
        pytest.param("tiny-critic", {"epochs": 2, "micro_batch_size": 4}, id="two optimizers"),
    ],
)
def test_run_stopped_at_any_step_ends_as_one_that_was_not(
    tmp_path: Path, name: str, training: dict[str, Any]
) -> None:
    config = {"training": training}
    whole, steps = total_steps(name, config, tmp_path / "whole")
    for stop_at in range(1, steps + 1):
        place = tmp_path / str(stop_at)
        with pytest.raises(Stopped):
            train(
                tiny_rank(place, recipe=name, config=config),
                lambda recipe, at=stop_at: recipe.position.step == at,  # type: ignore[misc]
            )
        second = tiny_rank(place, recipe=name, config=config, attempt=2)
        train(second)
        assert_equal_states(newest(whole).state, newest(second).state, f"stopped at {stop_at}")
        assert_equal_states(newest(whole).rank_state, newest(second).rank_state)


@recipe("tiny-critic")
class TinyCritic(TinyGan):
    """The critic is stepped twice on each batch, the generator in every other step."""

    def updates(self, optimizers: Sequence[str]) -> Sequence[str]:
        assert tuple(optimizers) == ("discriminator", "generator")
        twice = ("discriminator",) * 2
        return twice if self.position.step % 2 else (*twice, "generator")

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        generator, critic = modules["generator"], modules["discriminator"]
        for name in self.updates(("discriminator", "generator")):
            fake = critic(generator(batch[0])).mean()
            if name == "generator":
                assert not critic.weight.requires_grad  # type: ignore[union-attr]
                yield Loss(name, -fake)
            else:
                assert critic.weight.requires_grad  # type: ignore[union-attr]
                yield Loss(name, fake - critic(batch[0]).mean())


def test_critic_may_be_stepped_more_often_than_the_generator(tmp_path: Path) -> None:
    rank = tiny_rank(
        tmp_path,
        recipe="tiny-critic",
        config={"training": {"epochs": 1}},
        checkpoint={"everySteps": 1, "keepLast": 99, "async": False},
    )
    train(rank)
    states = {m.step: newest_at(rank, m.step)["model"] for m in manifests_of(rank)}
    moved = [
        not torch.equal(
            states[step]["generator"]["weight"], states[step - 1]["generator"]["weight"]
        )
        for step in range(2, 7)
    ]
    assert moved == [False, True, False, True, False]
    assert all(
        not torch.equal(
            states[step]["discriminator"]["weight"], states[step - 1]["discriminator"]["weight"]
        )
        for step in range(2, 7)
    )


def newest_at(rank: Any, step: int) -> dict[str, Any]:
    manifest = next(m for m in manifests_of(rank) if m.step == step)
    state: dict[str, Any] = load_checkpoint(storage_of(rank), manifest).state
    return state


def test_update_of_an_unknown_optimizer_is_named(tmp_path: Path) -> None:
    @recipe("tiny-unknown")
    class TinyUnknown(TinyGan):
        """Names an optimizer that it does not build."""

        def updates(self, optimizers: Sequence[str]) -> Sequence[str]:
            return (*optimizers, "critic")

    with pytest.raises(ConfigurationError) as caught:
        train(tiny_rank(tmp_path, recipe="tiny-unknown"))
    assert str(caught.value) == (
        "Recipe: updates() names 'critic', which build_optimizers() does not build; name some of "
        "'discriminator', 'generator'."
    )
