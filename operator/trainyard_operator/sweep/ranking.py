"""Which of a sweep's trials count, and which did best: once for its status and for its report."""

from collections.abc import Iterable
from typing import Literal, Protocol, TypeVar

Goal = Literal["maximize", "minimize"]


class Scored(Protocol):
    """A trial with its objective."""

    @property
    def number(self) -> int:
        """From 0."""

    @property
    def state(self) -> str:
        """What became of it."""

    @property
    def value(self) -> float | None:
        """The objective, if it is known."""


T = TypeVar("T", bound=Scored)


def succeeded(trials: Iterable[T]) -> list[tuple[T, float]]:
    """Trials that ran to their end, with their objective, by number: means are over these."""
    ordered = sorted(trials, key=lambda trial: trial.number)
    return [(t, t.value) for t in ordered if t.state == "Succeeded" and t.value is not None]


def ranked(trials: Iterable[T], goal: Goal) -> list[tuple[T, float]]:
    """Trials that have not failed, the best first; of equals the one with the lowest number.

    One that was stopped early, or still runs, has a checkpoint that may be the best of all.
    """
    sign = -1.0 if goal == "maximize" else 1.0
    valued = [(t, t.value) for t in trials if t.state != "Failed" and t.value is not None]
    return sorted(valued, key=lambda pair: (sign * pair[1], pair[0].number))
