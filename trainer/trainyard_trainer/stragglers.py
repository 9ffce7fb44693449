"""Which rank holds the others up: each rank's own time a step, beside the median's.

A rank's own time is what it does without its peers: waiting for data and the forward pass. The
backward pass is left out, since in it the fast ranks wait for the slow one. On a GPU the forward
pass is the time that its kernels take to be queued, so there the score shows slow data and a slow
host, and not a slow GPU.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median_low
from typing import NamedTuple

from trainyard_trainer.console import log

WINDOW_SECONDS = 5.0
"""Times are averaged over at least so long before they are judged."""
SLOW = 1.5
"""From this score on a rank is slow,"""
SLOW_WINDOWS = 3
"""and after so many windows in a row the log says so."""


class Score(NamedTuple):
    """The slowest rank of a window."""

    rank: int
    score: float
    """Its own time divided by the median rank's."""


class Stragglers:
    """Every rank measures; all hear the times, and rank 0 reports."""

    def __init__(self, rank: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rank, self._clock = rank, clock
        self._seconds, self._steps = 0.0, 0
        self._sums: list[int] = []
        self._begun = clock()
        self._slow: dict[int, int] = {}
        self.worst: Score | None = None

    def add(self, seconds: float) -> None:
        """This rank's own time of a step."""
        self._seconds += seconds
        self._steps += 1

    def take(self) -> int:
        """Microseconds a step since the last call, at least 1."""
        mean = round(1e6 * self._seconds / max(1, self._steps))
        self._seconds, self._steps = 0.0, 0
        return max(1, mean)

    def note(self, times: Sequence[int]) -> None:
        """What each rank took."""
        before = self._sums or [0] * len(times)
        self._sums = [sum(pair) for pair in zip(before, times, strict=True)]
        if self._clock() - self._begun >= WINDOW_SECONDS:
            self._judge()
            self._sums, self._begun = [], self._clock()

    def _judge(self) -> None:
        usual = median_low(self._sums)
        scores = [own / usual for own in self._sums]
        worst = max(range(len(scores)), key=scores.__getitem__)
        self.worst = Score(worst, scores[worst])
        slow = {rank for rank, score in enumerate(scores) if score > SLOW}
        self._slow = {rank: self._slow.get(rank, 0) + 1 for rank in slow}
        for rank, windows in self._slow.items():
            if windows == SLOW_WINDOWS and self._rank == 0:
                log.warning(
                    "Rank %d is slow: data and forward pass take it %.1f times as long as the "
                    "median rank; look at its node and its data.",
                    rank,
                    scores[rank],
                )

    def metrics(self) -> dict[str, float]:
        """Of the last window."""
        if self.worst is None:
            return {}
        return {"straggler_rank": float(self.worst.rank), "straggler_worst": self.worst.score}
