"""Free-response ROC as LUNA16 defines it (Setio et al. 2017, arxiv.org/abs/1612.08012).

A candidate nearer to a nodule's centre than half its diameter is a hit; of several hits on one
nodule the best counts and the others are ignored, as are hits on irrelevant findings; all else are
false positives. The curve is joined to (0, 0) and linear between thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a scan at which sensitivity is averaged."""


@dataclass(frozen=True, kw_only=True)
class ScanMarks:
    """A scan's candidates against its findings; all in the same millimetres."""

    candidates: Floats
    """(N, 4): centre and probability."""
    nodules: Floats
    """(M, 4): centre and diameter."""
    irrelevant: Floats
    """(K, 4): centre and diameter."""


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What became of a scan's candidates."""

    hits: Floats
    """(M,): the best probability that hit each nodule, -inf where none did."""
    best: NDArray[np.int64]
    """(M,): which candidate that was, -1 for none."""
    false_positives: Floats
    """Their probabilities."""


@dataclass(frozen=True, kw_only=True)
class Froc:
    """A curve and its score."""

    rates: Floats
    """False positives a scan, rising from 0."""
    sensitivity: Floats
    score: float
    """Mean sensitivity at RATES; NaN without nodules."""


def match(scan: ScanMarks) -> Matches:
    """Candidates of one scan, never of another."""
    probability = scan.candidates[:, 3]
    on_nodule = _is_within(scan.candidates, scan.nodules)  # (N, M)
    on_irrelevant = _is_within(scan.candidates, scan.irrelevant)
    hits = np.where(on_nodule, probability[:, None], -np.inf)
    best = np.full(len(scan.nodules), -1)
    if len(probability):
        best = np.where(on_nodule.any(0), hits.argmax(0), -1)
    is_false = ~on_nodule.any(1) & ~on_irrelevant.any(1)
    return Matches(
        hits=hits.max(0, initial=-np.inf), best=best, false_positives=probability[is_false]
    )


def froc(matches: Sequence[Matches]) -> Froc:
    """One curve over all scans."""
    hits = _joined([one.hits for one in matches])
    false = _joined([one.false_positives for one in matches])
    thresholds = np.unique(np.concatenate([hits[np.isfinite(hits)], false]))[::-1]
    found = len(hits) - np.searchsorted(np.sort(hits), thresholds, side="left")
    wrong = len(false) - np.searchsorted(np.sort(false), thresholds, side="left")
    rates = np.concatenate([[0.0], wrong / max(1, len(matches))])
    sensitivity = np.concatenate([[0.0], found / max(1, len(hits))])
    score = float(np.mean(at_rates(rates, sensitivity))) if len(hits) else float("nan")
    return Froc(rates=rates, sensitivity=sensitivity, score=score)


def at_rates(rates: Floats, sensitivity: Floats, at: Sequence[float] = RATES) -> Floats:
    """Sensitivity at each rate: linear in between, the last one beyond the curve's end."""
    return np.asarray(np.interp(at, rates, sensitivity))


def bootstrap(matches: Sequence[Matches], draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the score, drawing scans with replacement. Draws without nodules are left
    out; NaN where none is left."""
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(draws):
        drawn = rng.integers(0, len(matches), len(matches))
        scores.append(froc([matches[index] for index in drawn]).score)
    known = [score for score in scores if np.isfinite(score)]
    if not known:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _is_within(candidates: Floats, findings: Floats) -> NDArray[np.bool_]:
    """(N, K): whether each candidate lies nearer than half the diameter."""
    away = candidates[:, None, :3] - findings[None, :, :3]
    found: NDArray[np.bool_] = (away**2).sum(2) < (findings[None, :, 3] / 2) ** 2
    return found


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)
