"""When to save, what is best, and when to give up: spec.checkpoint and early stopping as rules."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard_trainer.config import EarlyStoppingConfig
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.interval import Interval
from trainyard_trainer.manifest import Best
from trainyard_trainer.metrics import find_metric
from trainyard_trainer.recipe import Metric

_KEYS = (
    "everySteps",
    "everyEpochs",
    "everySeconds",
    "maxOverheadPercent",
    "keepLast",
    "keepEverySteps",
    "keepBest",
    "async",
    "resumeFrom",
    "pauseAtStep",
)


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """spec.checkpoint. None means never; with no interval at all, saves find their own."""

    every_steps: int | None = None
    every_epochs: int | None = None
    every_seconds: float | None = None
    max_overhead: float = 0.02
    """Share of the time that saves may hold up training, where no interval is given."""
    keep_last: int = 3
    keep_every_steps: int | None = None
    keep_best: Metric
    is_async: bool = True
    resume_from: Mapping[str, Any] | None = None
    pause_at_step: int | None = None

    @classmethod
    def parse(cls, spec: Mapping[str, Any], best: Metric) -> "CheckpointPolicy":
        """best: the recipe's own, used where keepBest is unset. Raises ConfigurationError."""
        for key in spec:
            if key not in _KEYS:
                near = difflib.get_close_matches(key, _KEYS, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else "."
                raise ConfigurationError(f"spec.checkpoint: unknown key '{key}'{hint}")
        rule = Best.from_spec(spec)
        return cls(
            every_steps=_positive(spec, "everySteps"),
            every_seconds=_positive(spec, "everySeconds"),
            every_epochs=_positive(spec, "everyEpochs"),
            max_overhead=_percent(spec, "maxOverheadPercent") or cls.max_overhead,
            keep_last=_positive(spec, "keepLast") or cls.keep_last,
            keep_every_steps=_positive(spec, "keepEverySteps"),
            keep_best=Metric(rule.metric, rule.mode) if rule else best,
            is_async=spec.get("async") is not False,
            resume_from=spec.get("resumeFrom"),
            pause_at_step=_positive(spec, "pauseAtStep"),
        )

    def interval(self, now: float) -> Interval:
        """By the clock."""
        if self.every_steps or self.every_epochs or self.every_seconds:
            return Interval(now, seconds=self.every_seconds)
        return Interval(now, share=self.max_overhead)

    def is_due_at_step(self, step: int) -> bool:
        """By everySteps."""
        return self.every_steps is not None and step % self.every_steps == 0

    def is_due_after_epoch(self, epochs: int) -> bool:
        """By everyEpochs; epochs: how many are done in the run."""
        return self.every_epochs is not None and epochs % self.every_epochs == 0

    def pauses_at(self, step: int) -> bool:
        """By pauseAtStep, after an evaluation at a step."""
        return self.pause_at_step is not None and step >= self.pause_at_step


def _positive(spec: Mapping[str, Any], key: str) -> int | None:
    value = spec.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"spec.checkpoint.{key}: must be a whole number of at least 1; got {value!r}."
        )
    return value


def _percent(spec: Mapping[str, Any], key: str) -> float | None:
    value = spec.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 50:
        raise ConfigurationError(
            f"spec.checkpoint.{key}: must be a number above 0, at most 50; got {value!r}."
        )
    return value / 100


class Judge:
    """Keeps a stage's best value and the patience of early stopping."""

    def __init__(self, best: Metric, early: EarlyStoppingConfig | None) -> None:
        self.metric = best
        self._early = early
        watched = Metric(early.metric, early.mode) if early and early.metric else best
        self._watched = watched
        self.best: float | None = None
        self._early_best: float | None = None
        self._bad = 0

    def judge(self, metrics: Mapping[str, float]) -> tuple[bool, bool]:
        """After an evaluation: whether it is the best so far, and whether to end the stage."""
        value = _value(metrics, self.metric, "spec.checkpoint.keepBest.metric")
        is_best = self.metric.is_better(value, self.best)
        if is_best:
            self.best = value
        return is_best, self._is_hopeless(metrics)

    def _is_hopeless(self, metrics: Mapping[str, float]) -> bool:
        if self._early is None:
            return False
        where = "spec.config.training.early_stopping.metric"
        value = _value(metrics, self._watched, where)
        delta = self._early.min_delta
        if self._watched.is_better(value, self._early_best, delta):
            self._early_best, self._bad = value, 0
            return False
        self._bad += 1
        return self._bad >= self._early.patience

    def state_dict(self) -> dict[str, Any]:
        """Best values and patience used."""
        return {"best": self.best, "early_best": self._early_best, "bad": self._bad}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self.best, self._early_best = state["best"], state["early_best"]
        self._bad = state["bad"]


def _value(metrics: Mapping[str, float], metric: Metric, where: str) -> float:
    value = find_metric(metrics, metric.name)
    if value is None:
        known = ", ".join(f"'{name}'" for name in sorted(metrics))
        near = difflib.get_close_matches(metric.name, metrics, n=1)
        hint = f"did you mean '{near[0]}'? There are" if near else "name one of"
        raise ConfigurationError(
            f"{where}: '{metric.name}' is not among what is evaluated; {hint} {known}."
        )
    return value
