"""What a benchmark returns: series of ours and of another, and the bound that ours has to keep."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Unit = Literal["s", "steps", "kills", "MB", "%"]
NOTHING = "-"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ours beside another: a line of the table."""

    what: str
    ours: Sequence[float]
    """In `unit`."""
    other: Sequence[float] = ()
    """As long as ours where the n-th was measured next to the n-th of ours; else any length. Empty:
    there is nothing to compare with."""
    other_name: str = ""
    bound: float | None = None
    """Of what `bounded` says. None: ours is shown, not judged."""
    bounded: Literal["ratio", "median", "worst"] = "ratio"
    """The ratio to the other, or the median or worst of ours in `unit`."""
    unit: Unit = "s"
    note: str = ""
    """What a reader of the table must know."""

    @property
    def ratios(self) -> list[float]:
        """Ours over its neighbour: a load that comes and goes hits both."""
        return [a / b for a, b in zip(self.ours, self.other, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios; where there are no pairs, the ratio of the medians."""
        if len(self.ours) == len(self.other):
            return median(self.ratios)
        return median(self.ours) / median(self.other)

    @property
    def is_kept(self) -> bool:
        """Whether ours is within its bound."""
        return self.bound is None or self._judged <= self.bound

    @property
    def _judged(self) -> float:
        if self.bounded == "ratio":
            return self.ratio
        return max(self.ours) if self.bounded == "worst" else median(self.ours)

    def cells(self) -> list[str]:
        """A line of the table."""
        value = max(self.ours) if self.bounded == "worst" else median(self.ours)
        return [
            self.what,
            shown(value, self.unit),
            f"{shown(median(self.other), self.unit)}  {self.other_name}" if self.other else NOTHING,
            self._shown_ratio() if self.other else NOTHING,
            self._shown_bound(),
            NOTHING if self.bound is None else "yes" if self.is_kept else "NO",
        ]

    def _shown_ratio(self) -> str:
        """With the interval that holds the median of such pairs in 95 of 100 runs."""
        if len(self.ours) != len(self.other) or len(self.ours) < 10:
            return f"{self.ratio:.3f}" if median(self.other) else NOTHING
        low, high = median_interval(self.ratios)
        return f"{self.ratio:.3f} ({low:.3f} to {high:.3f})"

    def _shown_bound(self) -> str:
        if self.bound is None:
            return NOTHING
        return f"{self.bound:.2f} x" if self.bounded == "ratio" else shown(self.bound, self.unit)


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A line of the table that could not be measured."""

    what: str
    other_name: str = ""
    note: str
    """Why."""
    is_kept: bool = True
    """False where ours should have been measured."""

    def cells(self) -> list[str]:
        """A line of the table."""
        blank = [NOTHING] * 2
        return [
            self.what,
            NOTHING,
            self.other_name or NOTHING,
            *blank,
            "-" if self.is_kept else "NO",
        ]


Row = Comparison | Absent


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


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Between which two of the values the true median lies with 95 %, by the sign test."""
    ordered, count = sorted(values), len(values)
    reach = math.ceil(0.98 * math.sqrt(count))
    return ordered[max(0, count // 2 - reach)], ordered[min(count - 1, count // 2 + reach)]


def shown(value: float, unit: Unit = "s") -> str:
    """With a unit that suits it."""
    if unit != "s":
        return f"{value:,.0f} {unit}" if value >= 10_000 else f"{value:.4g} {unit}"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.1f} ms" if value >= 0.001 else f"{value * 1e6:.0f} us"
