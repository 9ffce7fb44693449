"""Half precision, and the scalers of fp16, as far as a CPU computes it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from unit.engine.tiny import assert_equal_states, newest, tiny_rank, train

from trainyard_trainer.errors import Stopped
from trainyard_trainer.recipe import Recipe
from trainyard_trainer.stepper import Stepper

FP16 = {"training": {"precision": "fp16", "clip_grad_norm": 1.0}}


def stepper_of(monkeypatch: pytest.MonkeyPatch) -> list[Stepper]:
    """Filled with the stepper of each stage that is built from now on."""
    found: list[Stepper] = []
    build = Stepper.__init__

    def note(self: Stepper, *arguments: Any) -> None:
        build(self, *arguments)
        found.append(self)

    monkeypatch.setattr(Stepper, "__init__", note)
    return found


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_ends_near_full_precision(tmp_path: Path, precision: str) -> None:
    plain = {"noise": 0, "dropout": 0, "norm": False}
    ends = []
    for wanted in ("fp32", precision):
        rank = tiny_rank(tmp_path / wanted, config={**plain, "training": {"precision": wanted}})
        train(rank)
        ends.append(newest(rank).state["model"])
    for name, weight in ends[0].items():
        assert weight.dtype == ends[1][name].dtype == torch.float32
        torch.testing.assert_close(ends[1][name], weight, rtol=0.05, atol=0.02)
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("recipe", ["tiny", "tiny-gan"])
def test_scaled_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path, recipe: str) -> None:
    whole = tiny_rank(tmp_path / "a", recipe=recipe, config=FP16)
    train(whole)
    with pytest.raises(Stopped):
        train(
            tiny_rank(tmp_path / "b", recipe=recipe, config=FP16),
            lambda recipe: recipe.position.step == 8,
        )
    second = tiny_rank(tmp_path / "b", recipe=recipe, config=FP16, attempt=2)
    train(second)
    one, other = newest(whole).state, newest(second).state
    assert_equal_states(one, other)
    names = {"main"} if recipe == "tiny" else {"discriminator", "generator"}
    assert set(one["stage"]["scalers"]) == names
    assert all(scaler["scale"] > 0 for scaler in one["stage"]["scalers"].values())


@pytest.mark.parametrize("fused", [None, False])
def test_overflow_leaves_weights_and_moments_alone_and_counts_as_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fused: bool | None
) -> None:
    """At step 3 the scale is so large that scaled gradients overflow, of themselves finite."""
    steppers, weights = stepper_of(monkeypatch), {}

    def meddle(recipe: Recipe[Any]) -> bool:
        stepper, step = steppers[0], recipe.position.step
        weights[step] = next(iter(stepper.modules.values()))[0].weight.detach().clone()  # type: ignore[index]
        if step == 2:
            stepper.scalers["main"].update(3e38)
        return False

    config = {"training": {**FP16["training"], "optimizer": {"fused": fused}, "epochs": 1}}
    config["training"]["schedule"] = {"name": "cosine"}
    rank = tiny_rank(tmp_path, config=config)
    train(rank, meddle)
    assert torch.equal(weights[2], weights[3])
    assert not torch.equal(weights[1], weights[2])
    state = newest(rank).state
    assert state["run"]["step"] == 6
    done = state["stage"]["optimizers"]["main"]["state"][0]["step"]
    assert done < 6
    assert state["stage"]["scalers"]["main"]["scale"] < 3e38
    rate = steppers[0].rates()["learning_rate"]
    assert rate == pytest.approx(steppers[0].schedules["main"].factor(5) * 1e-3)


def test_norm_is_clipped_after_the_scale_is_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipped before, gradients of scale 65536 would come out 65536 times too small."""
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def note(parameters: Any, most: float, norm_type: float) -> torch.Tensor:
        norms.append(clip(parameters, most, norm_type))
        return norms[-1]

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", note)
    for precision in ("fp32", "fp16"):
        training = FP16["training"] | {"precision": precision, "epochs": 1}
        train(tiny_rank(tmp_path / precision, config={"noise": 0, "training": training}))
    torch.testing.assert_close(norms[6], norms[0], rtol=0.05, atol=0)
