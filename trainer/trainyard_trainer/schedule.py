"""Learning-rate schedules: a factor of the optimizer's own rate, as a function of the step.

All but `plateau` are pure functions of the position in the stage, so that they resume by
themselves. A step or epoch counts from 0 and has its factor before it is trained.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from trainyard_trainer.config import ScheduleConfig


class Schedule(ABC):
    """A factor for the learning rate of every parameter group."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """For the optimizer step `step` of the stage, from 0."""

    def observe(self, value: float) -> None:  # noqa: B027
        """Take note of an evaluation; only plateau listens."""

    def state_dict(self) -> dict[str, Any]:
        """Empty where the factor follows from the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Undo `state_dict`."""


class Shape(Schedule):
    """Linear warm-up, then a shape, both over steps or both over epochs."""

    def __init__(
        self, config: ScheduleConfig, learning_rate: float, epochs: int, steps_per_epoch: int
    ) -> None:
        per_epoch = steps_per_epoch if config.interval == "step" else 1
        self.name = config.name
        self.divisor = 1 if config.interval == "step" else steps_per_epoch
        self.total = max(1, epochs * per_epoch)
        self.warmup = round(config.warmup_epochs * per_epoch)
        self.per_epoch = per_epoch
        self.period = config.period_epochs * per_epoch
        self.milestones = sorted(epoch * per_epoch for epoch in config.milestones)
        self.gamma = config.gamma
        self.floor = min(1.0, config.min_lr / learning_rate)

    def factor(self, step: int) -> float:
        """1 is the optimizer's own rate."""
        at = step // self.divisor
        if self.name == "one_cycle":
            return self._one_cycle(at)
        return (at + 1) / self.warmup if at < self.warmup else self._after_warmup(at)

    def _after_warmup(self, at: int) -> float:
        if self.name == "cosine":
            return self._cosine(at - self.warmup, self.total - self.warmup)
        if self.name == "step":
            return float(self.gamma ** (at // self.period))
        if self.name == "multi_step":
            return float(self.gamma ** bisect_right(self.milestones, at))
        if self.name == "exponential":
            return float(self.gamma ** (at / self.per_epoch))
        return 1.0

    def _cosine(self, at: int, total: int) -> float:
        angle = math.pi * min(1.0, at / max(1, total))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(angle))

    def _one_cycle(self, at: int) -> float:
        """Up from 1/25 in the first 30 %, then down to the floor (Smith 2018), both as cosines."""
        rise = max(1, round(0.3 * self.total))
        if at < rise:
            return 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * at / rise))
        return self._cosine(at - rise, self.total - rise)


class Plateau(Schedule):
    """Drops when the observed metric stops improving."""

    def __init__(self, config: ScheduleConfig, learning_rate: float, mode: str) -> None:
        self.sign = 1.0 if mode == "min" else -1.0
        self.gamma = config.gamma
        self.patience = config.patience
        self.floor = min(1.0, config.min_lr / learning_rate)
        self.scale = 1.0
        self.best: float | None = None
        self.bad = 0

    def factor(self, step: int) -> float:
        """The same for every step between two evaluations."""
        return self.scale

    def observe(self, value: float) -> None:
        """A smaller or larger value than ever resets the patience; equal or NaN does not."""
        signed = self.sign * value
        if self.best is None or signed < self.best:
            self.best, self.bad = signed, 0
            return
        self.bad += 1
        if self.bad > self.patience:
            self.scale, self.bad = max(self.floor, self.scale * self.gamma), 0

    def state_dict(self) -> dict[str, Any]:
        """Scale, best value and patience used."""
        return {"scale": self.scale, "best": self.best, "bad": self.bad}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self.scale, self.best, self.bad = state["scale"], state["best"], state["bad"]


def build_schedule(
    config: ScheduleConfig,
    learning_rate: float,
    epochs: int,
    steps_per_epoch: int,
    plateau_mode: str | None = None,
) -> Schedule:
    """plateau_mode: min or max, of the metric that a plateau watches; config.mode when None."""
    if config.name == "plateau":
        return Plateau(config, learning_rate, plateau_mode or config.mode)
    return Shape(config, learning_rate, epochs, steps_per_epoch)
