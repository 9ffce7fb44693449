"""Averages of training metrics that cost the step next to nothing, and how numbers are written."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Sums = dict[str, tuple[float, int]]
"""By name: a sum over samples, and their number."""


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
