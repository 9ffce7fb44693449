"""Scores of a split from what its scans gave: FROC, Dice, accuracy of centre and size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainyard_trainer.recipes.lung_nodule.annotations import Nodule
from trainyard_trainer.recipes.lung_nodule.froc import (
    Floats,
    Froc,
    Matches,
    ScanMarks,
    bootstrap,
    froc,
    match,
)

CENTRE_MM = 3.0
"""A centre this near counts as right: the heatmap's sigma."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A split's scans with their matches."""

    marks: list[ScanMarks]
    matches: list[Matches]
    candidates: list[Floats]

    @property
    def curve(self) -> Froc:
        """FROC."""
        return froc(self.matches)


def rows(findings: tuple[Nodule, ...]) -> Floats:
    """(M, 4): world centre z, y, x and diameter, mm."""
    found = [(*one.centre, one.diameter) for one in findings]
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def judge(gathered: Mapping[str, Any]) -> Judged:
    """From `candidates`, `nodules` and `irrelevant` of each scan."""
    triples = zip(gathered["candidates"], gathered["nodules"], gathered["irrelevant"], strict=True)
    marks = [
        ScanMarks(candidates=found[:, :4], nodules=nodules, irrelevant=irrelevant)
        for found, nodules, irrelevant in triples
    ]
    matches = [match(one) for one in marks]
    return Judged(marks=marks, matches=matches, candidates=list(gathered["candidates"]))


def center_accuracy(judged: Judged) -> float:
    """Share of the found nodules whose best hit lies within CENTRE_MM of the centre; 0 of none."""
    return _mean([float(away <= CENTRE_MM) for away, _, _ in _found(judged)])


def size_accuracy(judged: Judged) -> float:
    """Mean over the found nodules of 1 - |predicted - true| / true diameter, at least 0; 0 of
    none, NaN where no diameter is predicted."""
    errors = [abs(predicted - true) / true for _, predicted, true in _found(judged)]
    return _mean([max(0.0, 1 - error) if np.isfinite(error) else error for error in errors])


def detection_dice(overlap: Tensor) -> float:
    """2 |P and T| / (|P| + |T|) over all scans together; 1 where both are empty.

    overlap: (B, 3), voxels of the intersection, the prediction and the truth.
    """
    both, predicted, true = overlap.double().sum(0).tolist()
    return 2 * both / (predicted + true) if predicted + true else 1.0


def overlap_counts(probability: Tensor, target: Tensor, threshold: float) -> Tensor:
    """(3,): voxels of the intersection, the prediction above `threshold`, and the target above a
    half. Both (D, H, W)."""
    predicted, true = probability >= threshold, target >= 0.5
    return torch.stack([(predicted & true).sum(), predicted.sum(), true.sum()]).double()


def score_interval(judged: Judged, draws: int) -> tuple[float, float]:
    """95 % interval of the FROC score over scans."""
    return bootstrap(judged.matches, draws)


def _found(judged: Judged) -> list[tuple[float, float, float]]:
    """For each nodule that was hit: distance of its best hit, predicted and true diameter, mm."""
    found = []
    for marks, matches, candidates in zip(
        judged.marks, judged.matches, judged.candidates, strict=True
    ):
        for nodule, best in zip(marks.nodules, matches.best, strict=True):
            if best >= 0:
                away = float(np.linalg.norm(candidates[best, :3] - nodule[:3]))
                found.append((away, float(candidates[best, 4]), float(nodule[3])))
    return found


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
