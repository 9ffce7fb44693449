"""From a network's maps to candidates: peaks of the heatmap, and what the heads say around them."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trainyard_trainer.recipes.lung_nodule.grid import Floats, Grid
from trainyard_trainer.recipes.lung_nodule.model import CENTRE, SIZE, TRIAGE

Candidates = NDArray[np.float64]
"""(N, 6), the likeliest first: world centre z, y, x in mm, probability, diameter in mm, probability
of malignancy; the last two NaN without heads."""
COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Which voxels of a heatmap are candidates."""

    threshold: float
    least_distance_mm: float
    most: int
    sigma_mm: float = 3.0
    """Of the weights with which the heads are read around a peak."""


def find_candidates(maps: Tensor, grid: Grid, peaks: Peaks) -> Candidates:
    """maps: (K, D, H, W): the heatmap's logit, then 7 channels of heads if there are any."""
    probability = torch.sigmoid(maps[0])
    voxels = find_peaks(probability, grid, peaks)
    rows = np.full((len(voxels), COLUMNS), np.nan)
    if len(voxels) == 0:
        return rows
    rows[:, 3] = probability[tuple(torch.from_numpy(voxels.T))].cpu().numpy()
    centres = voxels.astype(np.float64)
    if len(maps) > TRIAGE.start:
        for number, voxel in enumerate(voxels):
            shift, rows[number, 4], rows[number, 5] = _read_heads(maps, voxel, grid, peaks)
            centres[number] += shift / np.asarray(grid.spacing)
    rows[:, :3] = grid.to_world(centres)
    return rows


def find_peaks(values: Tensor, grid: Grid, peaks: Peaks) -> NDArray[np.int64]:
    """Voxels (N, 3) that are highest within the distance, the highest first. values: (D, H, W)."""
    reach = [max(1, int(peaks.least_distance_mm / step)) for step in grid.spacing]
    highest = values[None, None]
    for axis, one in enumerate(reach):  # A box is the maximum of maxima along each axis.
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = 2 * one + 1, one
        highest = F.max_pool3d(highest, kernel, stride=1, padding=padding)
    found = torch.nonzero((values == highest[0, 0]) & (values >= peaks.threshold)).cpu().numpy()
    heights = values.cpu().numpy()[tuple(found.T)]
    order = np.argsort(-heights, kind="stable")[: 4 * peaks.most]
    return _thinned(found[order], grid, peaks)


def _thinned(voxels: NDArray[np.int64], grid: Grid, peaks: Peaks) -> NDArray[np.int64]:
    """Neighbours of the same height are all peaks: the first of them stands for the others."""
    kept: list[NDArray[np.int64]] = []
    for voxel in voxels:
        away = [np.linalg.norm((voxel - one) * grid.spacing) for one in kept]
        if len(kept) < peaks.most and all(one >= peaks.least_distance_mm for one in away):
            kept.append(voxel)
    return np.array(kept, dtype=np.int64).reshape(-1, 3)


def _read_heads(
    maps: Tensor, voxel: NDArray[np.int64], grid: Grid, peaks: Peaks
) -> tuple[Floats, float, float]:
    """Offset of the centre in mm (z, y, x), diameter and malignancy, as means around a peak."""
    spacing = np.asarray(grid.spacing)
    reach = np.maximum(1, np.ceil(2 * peaks.sigma_mm / spacing)).astype(int)
    low = np.maximum(0, voxel - reach)
    high = np.minimum(maps.shape[1:], voxel + reach + 1)
    place = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    box = maps[(slice(None), *place)].double().cpu().numpy()  # (K, d, h, w)
    ranges = (np.arange(a, b) for a, b in zip(low, high, strict=True))
    at = np.stack(np.meshgrid(*ranges, indexing="ij"))
    away = (at - voxel[:, None, None, None]) * spacing[:, None, None, None]  # (3, d, h, w), mm
    weight = np.exp(-0.5 * (away**2).sum(0) / peaks.sigma_mm**2)
    weight /= weight.sum()
    centre = ((away + 10 * box[CENTRE]) * weight).sum((1, 2, 3))
    diameter = max(0.0, float((10 * box[SIZE] * weight).sum((1, 2, 3)).mean()))
    malignancy = 1 / (1 + np.exp(-float((box[TRIAGE] * weight).sum())))
    return centre, diameter, malignancy
