"""What a benchmark returns: two series measured in turns, and the bound that ours has to keep."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ours beside another, repetition by repetition."""

    what: str
    other_name: str
    ours: list[float]
    """Seconds."""
    other: list[float]
    """Seconds; the n-th was measured next to the n-th of ours."""
    bound: float
    """Largest ratio, or largest median of ours in seconds."""
    bounded: Literal["ratio", "seconds"] = "ratio"
    note: str = ""
    """What a reader of the table must know."""

    @property
    def ratio(self) -> float:
        """Median of ours over its neighbour: a load that comes and goes hits both."""
        return median(a / b for a, b in zip(self.ours, self.other, strict=True))

    @property
    def is_kept(self) -> bool:
        """Whether ours is within its bound."""
        return (self.ratio if self.bounded == "ratio" else median(self.ours)) <= self.bound

    def cells(self) -> list[str]:
        """A line of the table."""
        limit = f"{self.bound:.2f} x" if self.bounded == "ratio" else shown(self.bound)
        return [
            self.what,
            shown(median(self.ours)),
            f"{shown(median(self.other))}  {self.other_name}",
            f"{self.ratio:.3f}",
            limit,
            "yes" if self.is_kept else "NO",
        ]


def alternate(
    ours: Callable[[], float], other: Callable[[], float], repetitions: int
) -> tuple[list[float], list[float]]:
    """Both in turns, and each first every other time: A B B A A B ..."""
    first: list[float] = []
    second: list[float] = []
    for repetition in range(repetitions):
        pair = [(ours, first), (other, second)]
        for measure, series in pair if repetition % 2 == 0 else reversed(pair):
            series.append(measure())
    return first, second


def quantile(values: list[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def shown(seconds: float) -> str:
    """With a unit that suits it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
