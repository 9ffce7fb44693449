"""What happens between two steps, and what must not."""

import gzip
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from unit.engine.tiny import Tiny, TinyGan, newest, storage_of, tiny_rank, train

from trainyard_trainer import stepper
from trainyard_trainer.config import OptimizerConfig
from trainyard_trainer.console import log
from trainyard_trainer.errors import Stopped
from trainyard_trainer.guard import DeviceGuard, build_guard
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.recipe import Batch, Loss, Modules
from trainyard_trainer.registry import recipe
from trainyard_trainer.stage_run import prepare_modules
from trainyard_trainer.stepper import Stepper
from trainyard_trainer.stragglers import SLOW_WINDOWS, WINDOW_SECONDS, Stragglers
from trainyard_trainer.worker import RankRun


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_flag_on_the_device_keeps_the_weights_from_the_first_infinite_loss_on(name: str) -> None:
    network = nn.Linear(3, 2)
    config = OptimizerConfig.model_validate({"name": name})
    optimizer = build_optimizer(network.parameters(), config, 0.1)
    guard = DeviceGuard(torch.device("cpu"), [optimizer])
    kept = []
    for step, factor in enumerate((1.0, float("nan"), 1.0)):
        optimizer.zero_grad()
        loss = network(torch.ones(4, 3)).square().mean() * factor
        loss.backward()
        guard.watch(loss.detach())
        optimizer.step()
        kept.append(network.weight.detach().clone())
        assert step or torch.isfinite(loss)
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])
    assert not guard.is_closed


def test_guard_on_a_gpu_is_the_flag_or_the_scaler() -> None:
    assert type(build_guard(torch.device("cpu"), [], scaled=True)).__name__ == "Guard"
    assert type(build_guard(torch.device("meta"), [], scaled=False)).__name__ == "DeviceGuard"
    assert type(build_guard(torch.device("meta"), [], scaled=True)).__name__ == "NoGuard"


ASKING = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__array__")


@pytest.mark.parametrize("name", ["tiny", "tiny-plain-gan"])
def test_nothing_in_a_step_asks_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each of these would wait until a GPU has done all that is queued."""
    asked: list[str] = []
    take = Stepper.step

    def watch(self: Stepper, *arguments: Any) -> None:
        with monkeypatch.context() as patch:
            for method in ASKING:
                patch.setattr(Tensor, method, lambda _, *__, m=method: asked.append(m))
            take(self, *arguments)

    monkeypatch.setattr(Stepper, "step", watch)
    monkeypatch.setattr(
        stepper, "build_guard", lambda device, optimizers, scaled: DeviceGuard(device, optimizers)
    )
    training = {"micro_batch_size": 4, "clip_grad_norm": 1.0, "ema_decay": 0.9}
    train(tiny_rank(tmp_path, recipe=name, config={"training": training}))
    assert asked == []


@recipe("tiny-plain-gan")
class TinyPlainGan(TinyGan):
    """Its losses ask for nothing themselves."""

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        fake = modules["generator"](batch[0])
        yield Loss("discriminator", modules["discriminator"](fake.detach()).mean())
        yield Loss("generator", -modules["discriminator"](fake).mean())


class Clock:
    """Stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def windows(times: list[int], number: int) -> tuple[Stragglers, Clock]:
    clock = Clock()
    stragglers = Stragglers(0, clock)
    for _ in range(number):
        stragglers.note(times)
        clock.now += WINDOW_SECONDS
        stragglers.note(times)
    return stragglers, clock


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(log, "propagate", True)
    return caplog


def test_slow_rank_is_scored_by_the_median(said: pytest.LogCaptureFixture) -> None:
    stragglers, _ = windows([1000, 3000, 1000, 1100], SLOW_WINDOWS - 1)
    assert stragglers.metrics() == {"straggler_rank": 1.0, "straggler_worst": 3.0}
    assert said.messages == []
    windows([1000, 3000, 1000, 1100], SLOW_WINDOWS + 2)
    assert said.messages == [
        "Rank 1 is slow: data and forward pass take it 3.0 times as long as the median rank; look "
        "at its node and its data."
    ]


def test_of_two_ranks_the_slower_is_beside_the_faster() -> None:
    assert windows([1000, 1600], 1)[0].metrics()["straggler_worst"] == 1.6


def test_rank_that_was_slow_once_is_not_reported(said: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    stragglers = Stragglers(0, clock)
    for slow in (True, True, False, True, True):
        clock.now += WINDOW_SECONDS
        stragglers.note([1000, 2000 if slow else 1000])
    assert said.messages == []


def test_own_time_is_a_mean_over_steps_since_the_last_vote() -> None:
    stragglers = Stragglers(0)
    for seconds in (0.004, 0.006):
        stragglers.add(seconds)
    assert stragglers.take() == 5000
    assert stragglers.take() == 1


@pytest.mark.parametrize("start", [1, 5])
def test_profile_holds_the_steps_that_were_asked_for(tmp_path: Path, start: int) -> None:
    profile = {"start_step": start, "steps": 3}
    rank = tiny_rank(tmp_path, config={"training": {"epochs": 2, "profile": profile}})
    train(rank)
    storage = storage_of(rank)
    prefix = f"profiles/a1/step-{start:012d}-rank-0"
    assert {entry.key for entry in storage.list("profiles/")} == {
        f"{prefix}.txt",
        f"{prefix}.json.gz",
    }
    assert "aten::linear" in storage.read(f"{prefix}.txt").decode()
    events = json.loads(gzip.decompress(storage.read(f"{prefix}.json.gz")))["traceEvents"]
    steps = [e for e in events if e.get("name", "").startswith("Optimizer.step#AdamW")]
    assert len([e for e in steps if e.get("cat") == "user_annotation"]) == 3


def test_profile_is_not_taken_again_after_a_resume(tmp_path: Path) -> None:
    config = {"training": {"profile": {"start_step": 2, "steps": 2}}}
    first = tiny_rank(tmp_path, config=config)
    with pytest.raises(Stopped):
        train(first, lambda recipe: recipe.position.step == 5)
    train(tiny_rank(tmp_path, config=config, attempt=2))
    assert list(storage_of(first).list("profiles/a2/")) == []


def test_signal_asks_for_a_profile(tmp_path: Path) -> None:
    class Asks:
        """Sends the signal at step 4."""

        def __call__(self, recipe: Any) -> bool:
            if recipe.position.step == 4:
                os.kill(os.getpid(), signal.SIGUSR2)
            return False

    rank = tiny_rank(tmp_path, overrides=["training.epochs=1"])
    before = signal.getsignal(signal.SIGUSR2)
    monitored = Asks()
    holder: list[RankRun] = []
    run = RankRun(rank, lambda: monitored(holder[0].recipe))
    holder.append(run)
    signal.signal(signal.SIGUSR2, run.profiler.request)
    try:
        run.train()
    finally:
        signal.signal(signal.SIGUSR2, before)
    keys = {entry.key for entry in storage_of(rank).list("profiles/")}
    assert len(keys) == 2
    assert min(keys).startswith("profiles/a1/step-000000000005-rank-0")


@recipe("tiny-image")
class TinyImage(Tiny):
    """Points as pictures, through a convolution."""

    def build_modules(self) -> dict[str, nn.Module]:
        layers = [nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 4, 2), nn.Flatten(), nn.Linear(12, 2)]
        return {"model": nn.Sequential(*layers)}


def test_channels_last_is_the_layout_of_convolutions_in_2d_and_3d(tmp_path: Path) -> None:
    class Volumes(TinyImage):
        def build_modules(self) -> dict[str, nn.Module]:
            return {"flat": nn.Conv2d(2, 4, 3), "deep": nn.Conv3d(2, 4, 3)}

    config = Tiny.config_class.model_validate({"training": {"channels_last": True}})
    modules = prepare_modules(Volumes(config, None), torch.device("cpu"))  # type: ignore[arg-type]
    flat, deep = (module.weight for module in modules.values())
    assert flat.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator]
    assert deep.is_contiguous(memory_format=torch.channels_last_3d)  # type: ignore[operator]


def test_channels_last_does_not_change_the_result(tmp_path: Path) -> None:
    weights = []
    for wanted in (False, True):
        config = {"training": {"channels_last": wanted}}
        rank = tiny_rank(tmp_path / str(wanted), recipe="tiny-image", config=config)
        train(rank)
        weights.append(newest(rank).state["model"]["1.weight"])
    torch.testing.assert_close(*weights)
