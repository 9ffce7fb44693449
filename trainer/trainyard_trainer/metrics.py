"""Averages of training metrics that cost the step next to nothing, and how numbers are written."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from trainyard_trainer.errors import TrainyardError


class LossNotFinite(TrainyardError):
    """A loss became NaN or infinite."""

    def __init__(self, name: str, value: float, step: int, rank: int) -> None:
        self.name, self.value, self.step, self.rank = name, value, step, rank
        super().__init__(
            f"Training diverged: '{name}' is {value} at step {step} on rank {rank}; lower "
            "training.learning_rate, set training.clip_grad_norm, or look at that step's data."
        )


class Meter:
    """Collects scalars as tensors, and reads them from the device once in many steps."""

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank
        self._unread: defaultdict[str, list[tuple[Tensor, int, int]]] = defaultdict(list)
        self._losses: set[str] = set()
        self.sums: dict[str, tuple[float, int]] = {}
        """Of the epoch so far, up to the last `read`: sum over samples, number of samples."""

    def add(self, name: str, value: Tensor, count: int, step: int) -> None:
        """Note a mean over `count` samples, a scalar without graph."""
        self._unread[name].append((value, count, step))

    def add_loss(self, name: str, value: Tensor, count: int, step: int) -> None:
        """As `add`, for one that must be finite."""
        self._losses.add(name)
        self.add(name, value, count, step)

    def read(self) -> dict[str, float]:
        """Means since the last read. Raises LossNotFinite naming the step."""
        means = {}
        for name, unread in self._unread.items():
            if not unread:
                continue
            values, counts, steps = zip(*unread, strict=True)
            numbers = torch.stack(values).double().tolist()
            if name in self._losses:
                self._check(name, numbers, steps)
            total, count = _sum(numbers, counts)
            before, counted = self.sums.get(name, (0.0, 0))
            self.sums[name] = (before + total, counted + count)
            if count:
                means[name] = total / count
            unread.clear()
        return means

    def _check(self, name: str, numbers: Sequence[float], steps: Sequence[int]) -> None:
        for number, step in zip(numbers, steps, strict=True):
            if not math.isfinite(number):
                raise LossNotFinite(name, number, step, self._rank)

    def state_dict(self) -> dict[str, list[float]]:
        """The epoch's sums so far; `read` first."""
        return {name: [total, float(count)] for name, (total, count) in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Undo `state_dict`."""
        self.sums = {name: (total, int(count)) for name, (total, count) in state.items()}

    def reset(self) -> None:
        """Begin another epoch."""
        self.sums = {}


def _sum(numbers: Sequence[float], counts: Sequence[int]) -> tuple[float, int]:
    pairs = [(value, count) for value, count in zip(numbers, counts, strict=True) if count]
    return math.fsum(value * count for value, count in pairs), sum(count for _, count in pairs)


def merge_means(sums: Iterable[Mapping[str, tuple[float, int]]]) -> dict[str, float]:
    """Means over all ranks' samples."""
    totals: dict[str, tuple[float, int]] = {}
    for one in sums:
        for name, (total, count) in one.items():
            before, counted = totals.get(name, (0.0, 0))
            totals[name] = (before + total, counted + count)
    return {name: total / count for name, (total, count) in totals.items() if count}


def prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """`accuracy` as `val_accuracy`; a name that has the prefix keeps it."""
    return {
        name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value
        for name, value in values.items()
    }


def find_metric(metrics: Mapping[str, float], name: str) -> float | None:
    """A metric by its full name, or by its name without `val_`."""
    return metrics.get(name, metrics.get(f"val_{name}"))


def decimal(value: float) -> str:
    """Four significant digits, as text: what status and log lines show."""
    return f"{value:.4g}"
