"""The curve of the metric that chooses the best checkpoint: short, whatever the run's length."""

import math
from collections.abc import Iterable, Sequence

CURVE_POINTS = 32
"""A termination message has room for so many beside everything else."""
Point = tuple[int, float]
"""Optimizer step and value."""


def extended(curve: Iterable[Point], step: int, value: float) -> list[Point]:
    """With one evaluation more; none of those at later steps, which are done again."""
    kept = [point for point in curve if point[0] < step]
    if math.isfinite(value):
        kept.append((step, float(f"{value:.7g}")))
    return thinned(kept)


def joined(before: Sequence[Point], after: Sequence[Point]) -> list[Point]:
    """What an attempt reports replaces the steps that it repeats."""
    if not after:
        return list(before)
    return thinned([*(point for point in before if point[0] < after[0][0]), *after])


def thinned(curve: Sequence[Point]) -> list[Point]:
    """At most CURVE_POINTS: every second point is left out, but for the first and the newest."""
    points = list(curve)
    while len(points) > CURVE_POINTS:
        points = [*points[:-1:2], points[-1]]
    return points
