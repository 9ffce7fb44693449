"""What a recipe's metrics are made of, and averages that cost a step next to nothing.

A recipe's `evaluate_batch` returns outputs by name, and `compute_metrics` gets them for the whole
split. There are three kinds:

    return {
        "loss": loss,                                   # a row a sample: tensor (B,) or (B, ...)
        "confusion": Counts(confusion_matrix(...)),     # whole numbers, added up over the split
        "name": names,                                  # a list of B objects of any kind
    }

1. **Counts** come as one int64 tensor of the same shape: true and false positives, confusion
   matrices, bins of a histogram. What they cost does not grow with the split.
2. **Rows** of at most 256 bytes come as one tensor (N, ...) in the order of the split. Take them
   for sums of floats, such as a loss or a Dice score by sample: added up in the order of samples,
   they are the same to the bit on any number of ranks, which partial sums of ranks are not.
3. **Lists**, and rows that are larger, are collected by rank 0 as objects.

Counts and rows of all ranks take one reduction together (`reduction.py`). Their names, types and
shapes are the same for every batch; a list may hold what varies.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Sums = dict[str, tuple[float, int]]
"""By name: a sum over samples, and their number."""


@dataclass(frozen=True)
class Counts:
    """Whole numbers of one batch, to be added up over all batches and ranks."""

    value: Tensor
    """Of integers or booleans, of the same shape for each batch."""

    def __post_init__(self) -> None:
        """Raises TypeError for floats: their sum would depend on the number of ranks."""
        if self.value.is_floating_point() or self.value.is_complex():
            raise TypeError(
                f"Counts: takes whole numbers, not {self.value.dtype}; return floats by sample, "
                "as a tensor (B, ...)."
            )


class NotFinite(NamedTuple):
    """A loss that became NaN or infinite."""

    step: int
    name: str
    value: float


class Meter:
    """Collects scalars as tensors, and reads them from the device once in many steps."""

    def __init__(self) -> None:
        self._unread: defaultdict[str, list[tuple[Tensor, int, int]]] = defaultdict(list)
        self._losses: set[str] = set()
        self.sums: Sums = {}
        """Of the epoch so far, up to the last `read`: sum over samples, number of samples."""
        self._window: Sums = {}
        """The same since the last `next_window`."""
        self.failure: NotFinite | None = None
        """The first one that `read` met."""

    def add(self, name: str, value: Tensor, count: int, step: int) -> None:
        """Note a mean over `count` samples, a scalar without graph."""
        self._unread[name].append((value, count, step))

    def add_loss(self, name: str, value: Tensor, count: int, step: int) -> None:
        """As `add`, for one that must be finite."""
        self._losses.add(name)
        self.add(name, value, count, step)

    def read(self) -> dict[str, float]:
        """Means of the window so far; `failure` then tells of a loss that is not finite.

        It may be called whenever it suits: what comes out later does not depend on it.
        """
        for name, unread in self._unread.items():
            if not unread:
                continue
            values, counts, steps = zip(*unread, strict=True)
            numbers = torch.stack(values).double().tolist()
            if name in self._losses:
                self._check(name, numbers, steps)
            for sums in (self.sums, self._window):
                sums[name] = _add_up(sums.get(name, (0.0, 0)), numbers, counts)
            unread.clear()
        return {name: total / count for name, (total, count) in self._window.items() if count}

    def next_window(self) -> None:
        """From here on `read` gives the means of later steps; `read` first."""
        self._window = {}

    def _check(self, name: str, numbers: Sequence[float], steps: Sequence[int]) -> None:
        for number, step in zip(numbers, steps, strict=True):
            if not math.isfinite(number):
                found = NotFinite(step, name, number)
                self.failure = min(self.failure or found, found, key=lambda one: one.step)
                return

    def state_dict(self) -> dict[str, dict[str, list[float]]]:
        """The sums of the epoch and of the window so far; `read` first."""
        return {
            part: {name: [total, float(count)] for name, (total, count) in sums.items()}
            for part, sums in (("epoch", self.sums), ("window", self._window))
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, list[float]]]) -> None:
        """Undo `state_dict`."""
        self.sums, self._window = (
            {name: (total, int(count)) for name, (total, count) in state[part].items()}
            for part in ("epoch", "window")
        )

    def reset(self) -> None:
        """Begin another epoch."""
        self.sums, self._window = {}, {}


def _add_up(
    before: tuple[float, int], numbers: Sequence[float], counts: Sequence[int]
) -> tuple[float, int]:
    """In the order of the steps, so that it is the same to the bit however often one reads."""
    total, seen = before
    for number, count in zip(numbers, counts, strict=True):
        if count:
            total, seen = total + number * count, seen + count
    return total, seen


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
