"""What a detector without learning finds: bright blobs in dark surroundings.

Laplacian of Gaussian at several scales (Lindeberg 1998), normalised by the squared scale. Its peaks
are candidates, its response their score, and sqrt(12) sigma their diameter: that of the ball which
the filter answers most.
"""

import math

import numpy as np
import torch
from scipy import ndimage

from trainyard_trainer.recipes.lung_nodule.candidates import (
    COLUMNS,
    Candidates,
    Peaks,
    find_peaks,
)
from trainyard_trainer.recipes.lung_nodule.grid import Floats, Grid
from trainyard_trainer.recipes.lung_nodule.volumes import Voxels

DIAMETERS_MM = (4.0, 6.0, 9.0, 13.0, 19.0)
"""Of the balls that are looked for."""
HU_WINDOW = (-1000.0, 200.0)
_LUNG_HU = -400.0
_AROUND_MM = 12.0
"""Lung is looked for this far from a candidate: the chest wall is no nodule."""


def find_blobs(voxels: Voxels, grid: Grid, most: int = 100) -> Candidates:
    """Candidates of one scan. voxels: (D, H, W) in HU."""
    low, high = HU_WINDOW
    image = np.clip((voxels - low) / (high - low), 0, 1)
    responses = np.stack([_response(image, grid, diameter) for diameter in DIAMETERS_MM])
    best = responses.max(0) * _is_near_lung(voxels, grid)
    peaks = Peaks(threshold=1e-3, least_distance_mm=6.0, most=most)
    found = find_peaks(torch.from_numpy(best), grid, peaks)
    rows = np.full((len(found), COLUMNS), np.nan)
    at = tuple(found.T)
    rows[:, :3] = grid.to_world(found.astype(np.float64))
    rows[:, 3] = best[at]
    rows[:, 4] = np.asarray(DIAMETERS_MM)[responses.argmax(0)[at]]
    return rows


def _response(image: Voxels, grid: Grid, diameter: float) -> Floats:
    """Of a ball of this diameter; anisotropic voxels have their own sigma on each axis."""
    sigma = diameter / math.sqrt(12)
    total = np.zeros(image.shape)
    for axis, step in enumerate(grid.spacing):
        order = [0, 0, 0]
        order[axis] = 2
        second = ndimage.gaussian_filter(
            image, [sigma / one for one in grid.spacing], order=order, mode="nearest"
        )
        total -= second * sigma**2 / step**2
    return total


def _is_near_lung(voxels: Voxels, grid: Grid) -> Floats:
    """Where at least half of the surroundings is air that is inside of the body."""
    is_air = voxels < _LUNG_HU
    labels, count = ndimage.label(is_air)
    faces = [labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[..., 0], labels[..., -1]]
    outside = {label for face in faces[2:] for label in np.unique(face)}
    inside = is_air & ~np.isin(labels, [label for label in range(1, count + 1) if label in outside])
    sigma = [_AROUND_MM / 2 / one for one in grid.spacing]
    near: Floats = ndimage.gaussian_filter(inside.astype(np.float64), sigma) > 0.3
    return near
