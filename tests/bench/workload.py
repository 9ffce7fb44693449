"""What all loops train: a tiny network, and the digits; and the loop that one writes by hand."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from demo.jobs import digits_job
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.config import TrainingConfig
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.recipe import TensorSamples
from trainyard_trainer.recipes.classification.model import SmallCNN
from trainyard_trainer.schedule import Schedule, build_schedule

STEPS = 200_000
"""More than any loop makes; the schedule's length."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MLP_TRAINING = {
    "batch_size": 32,
    "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0},
}
DIGITS_TRAINING: dict[str, Any] = digits_job()["spec"]["config"]["training"]


@dataclass(kw_only=True)
class Work:
    """A network, its optimizer and its batches."""

    samples: TensorSamples
    network: nn.Module
    optimizer: Optimizer
    schedule: Schedule | None
    """None: the rate stays."""
    batch_size: int
    turn: int
    """Steps in which a loop is timed."""
    mean: Tensor | None = None
    std: Tensor | None = None
    _order: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._order = torch.randperm(64 * len(self.samples)) % len(self.samples)
        self._rate = self.optimizer.param_groups[0]["lr"]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Batches without end."""
        for step in itertools.count():
            at = step * self.batch_size % (len(self._order) - self.batch_size)
            yield self.samples.batch(self._order[at : at + self.batch_size], 0)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross entropy of one batch; images are normalised first."""
        inputs, target = batch
        if self.mean is not None:
            inputs = (inputs.float() / 255 - self.mean) / self.std
        return F.cross_entropy(network(inputs), target)

    def set_rate(self, step: int) -> None:
        """Before each step of the optimizer."""
        if self.schedule is None:
            return
        rate = self._rate * self.schedule.factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate


class RawLoop:
    """The loop that one writes by hand: nothing is measured, saved, logged or asked."""

    def __init__(self, work: Work) -> None:
        self._work, self._batches, self._step = work, iter(work), 0

    def run(self, steps: int) -> None:
        """So many steps."""
        work, optimizer = self._work, self._work.optimizer
        for _ in range(steps):
            batch = next(self._batches)
            optimizer.zero_grad()
            work.loss(work.network, batch).backward()
            work.set_rate(self._step)
            optimizer.step()
            self._step += 1


def build_work(model: str, digits: Path) -> Work:
    """model: `mlp` or `digits`. digits: the file that `images_as_tensors` wrote."""
    if model == "mlp":
        return _build(points(), mlp(), MLP_TRAINING, turn=200)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    work = _build(TensorSamples(*torch.load(digits)), SmallCNN(10), DIGITS_TRAINING, turn=5)
    work.mean, work.std = mean, std
    return work


def mlp() -> nn.Module:
    """4,938 parameters."""
    return nn.Sequential(
        nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def points(size: int = 4096) -> TensorSamples:
    """Random, in ten classes."""
    inputs = torch.randn(size, 32, generator=torch.Generator().manual_seed(0))
    return TensorSamples(inputs, inputs[:, :10].argmax(dim=1))


def _build(samples: TensorSamples, network: nn.Module, options: dict[str, Any], turn: int) -> Work:
    training = TrainingConfig.model_validate(options)
    rate, schedule = training.learning_rate, training.schedule
    moves = schedule.name != "constant"
    return Work(
        samples=samples,
        network=network,
        optimizer=build_optimizer(network.parameters(), training.optimizer, rate),
        schedule=build_schedule(schedule, rate, 1, STEPS, "min") if moves else None,
        batch_size=training.batch_size,
        turn=turn,
    )
