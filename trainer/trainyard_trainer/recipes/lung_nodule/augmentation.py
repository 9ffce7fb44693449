"""Cut a patch out of its scan: where, turned and scaled how, drawn from the engine's generator.

All geometry is one resampling (linear) in millimetres, so that spheres stay spheres on an
anisotropic grid, and findings move with the voxels.
"""

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from trainyard_trainer.recipes.lung_nodule.annotations import Nodule
from trainyard_trainer.recipes.lung_nodule.augmentation_config import AugmentationConfig
from trainyard_trainer.recipes.lung_nodule.data import (
    Cut,
    Patch,
    Windows,
    grid_at,
    row_of,
    windowed,
)
from trainyard_trainer.recipes.lung_nodule.grid import Floats, Grid, Triple
from trainyard_trainer.recipes.lung_nodule.targets import IGNORED, PADDING, ROW, TARGET
from trainyard_trainer.recipes.lung_nodule.volumes import VolumeCache, Voxels

JITTER = 0.25
"""A nodule lies within this share of the patch's side from its centre, either way."""
_INVERSIONS = 5
"""Steps of the fixed point that undoes an elastic displacement, which is small and smooth."""


class Cutter:
    """`Data.augment` of this recipe."""

    def __init__(
        self,
        cache: VolumeCache,
        size: tuple[int, int, int],
        spacing: Triple | None,
        windows: Windows,
        config: AugmentationConfig,
    ) -> None:
        """size: of a patch, voxels. spacing: the scans are brought to it; None: as stored."""
        self._cache, self._size, self._spacing = cache, size, spacing
        self._windows, self._config = windows, config

    def __call__(self, patch: Patch, rng: np.random.Generator) -> Cut:
        """The patch, its findings in its own voxels, and its spacing."""
        grid = grid_at(patch.scan, self._spacing)
        centre = self._choose_centre(patch, grid, rng)
        motion = Motion(self._config, self._size, grid.spacing, rng)
        voxels = self._sample(patch, grid, centre, motion)
        image = windowed(voxels, self._windows)
        noisy = self._config.random_noise
        if self._config.enabled and rng.random() < noisy.probability:
            noise = rng.normal(0, noisy.noise_std, image.shape)
            image = image + torch.from_numpy(noise.astype(np.float32))
        rows = self._rows(patch, grid, centre, motion)
        return Cut(image, rows, torch.tensor(grid.spacing, dtype=torch.float32))

    def _choose_centre(self, patch: Patch, grid: Grid, rng: np.random.Generator) -> Floats:
        size, shape = np.asarray(self._size), np.asarray(grid.shape)
        draw = rng.random(3)
        if patch.nodule is None:
            low = np.minimum(size, shape) / 2
            return np.floor(low + draw * (shape - 2 * low))
        voxel = grid.to_voxel(np.asarray(patch.nodule.centre))
        jittered: Floats = np.round(voxel + (2 * draw - 1) * JITTER * size)
        return jittered

    def _sample(self, patch: Patch, grid: Grid, centre: Floats, motion: "Motion") -> Voxels:
        """Whole voxels where nothing turns, which needs no interpolation."""
        half = np.asarray(self._size) // 2
        if motion.is_flip_only:
            start = (centre - half).astype(int).tolist()
            box = self._cache.region(patch.scan.file, grid, start, list(self._size))
            return motion.flip(box)
        wanted = motion.source(centre)  # (3, D, H, W)
        low = np.floor(wanted.reshape(3, -1).min(1)).astype(int)
        high = np.ceil(wanted.reshape(3, -1).max(1)).astype(int) + 1
        box = self._cache.region(patch.scan.file, grid, low.tolist(), (high - low).tolist())
        found: Voxels = ndimage.map_coordinates(
            box, wanted - low[:, None, None, None], order=1, mode="nearest"
        )
        return found

    def _rows(self, patch: Patch, grid: Grid, centre: Floats, motion: "Motion") -> torch.Tensor:
        """The patch's own nodule first, then what else lies in it."""
        scan, first = patch.scan, patch.nodule
        others = [(one, TARGET) for one in scan.nodules if one is not first]
        others += [(one, IGNORED) for one in scan.irrelevant]
        rows = [[float(PADDING)] * ROW]
        if first is not None:
            rows = [self._row(first, TARGET, grid, centre, motion)]
        for one, kind in others:
            row = self._row(one, kind, grid, centre, motion)
            reach = row[3] / 2 / np.asarray(grid.spacing)
            place = np.asarray(row[:3])
            if np.all(place > -reach) and np.all(place < self._size + reach):
                rows.append(row)
        return torch.tensor(np.array(rows, dtype=np.float32))

    def _row(
        self, finding: Nodule, kind: int, grid: Grid, centre: Floats, motion: "Motion"
    ) -> list[float]:
        voxel = motion.target(grid.to_voxel(np.asarray(finding.centre)), centre)
        row = row_of(finding, kind, voxel)
        row[3] *= motion.zoom
        return row


class Motion:
    """One draw of flips, rotation, scale and elastic displacement, for voxels and for points."""

    def __init__(
        self,
        config: AugmentationConfig,
        size: tuple[int, int, int],
        spacing: Triple,
        rng: np.random.Generator,
    ) -> None:
        # All numbers are drawn, used or not: switching one change on leaves the others as they are.
        flips, angles, zooms, elastic = rng.random(3), rng.random(4), rng.random(2), rng.random()
        self._size, self._half = size, np.asarray(size) // 2
        flip, turn = config.random_flip, config.random_rotation
        axes = flip.axes if config.enabled else ()
        self.flipped = [axis for axis in axes if flips[axis] < flip.probability]
        self.zoom = 1.0
        matrix = np.eye(3)
        if config.enabled and angles[3] < turn.probability:
            matrix = _rotation(turn.max_angle * (2 * angles[:3] - 1))
        if config.enabled and zooms[1] < config.random_scale.probability:
            low, high = config.random_scale.scale_range
            self.zoom = float(low + zooms[0] * (high - low))
        to_mm, to_voxels = np.diag(spacing), np.diag(1 / np.asarray(spacing))
        self._matrix = to_voxels @ matrix @ to_mm / self.zoom
        self._displacement: Floats | None = None
        if config.enabled and elastic < config.elastic_deformation.probability:
            self._displacement = _displacement(config, size, rng)
        self.is_flip_only = bool(np.array_equal(self._matrix, np.eye(3))) and (
            self._displacement is None
        )

    def flip(self, box: Voxels) -> Voxels:
        """Mirror along the drawn axes."""
        return np.ascontiguousarray(np.flip(box, tuple(self.flipped)))

    def source(self, centre: Floats) -> Floats:
        """Where in the scan each voxel of the patch is read from: (3, D, H, W)."""
        at = np.stack(np.meshgrid(*(np.arange(side) for side in self._size), indexing="ij"))
        return self._to_scan(at.astype(np.float64).reshape(3, -1), centre).reshape(3, *self._size)

    def target(self, voxel: Floats, centre: Floats) -> Floats:
        """Where in the patch a point of the scan comes to lie."""
        away = np.linalg.solve(self._matrix, voxel - centre) + self._half
        moved = away
        if self._displacement is not None:
            for _ in range(_INVERSIONS):
                moved = away - _at(self._displacement, moved)
        for axis in self.flipped:
            moved[axis] = self._size[axis] - 1 - moved[axis]
        return moved

    def _to_scan(self, points: Floats, centre: Floats) -> Floats:
        """points: (3, N) of the patch."""
        for axis in self.flipped:
            points[axis] = self._size[axis] - 1 - points[axis]
        if self._displacement is not None:
            points = points + _at(self._displacement, points)
        found: Floats = self._matrix @ (points - self._half[:, None]) + centre[:, None]
        return found


def _displacement(
    config: AugmentationConfig, size: tuple[int, int, int], rng: np.random.Generator
) -> Floats:
    """Uniform noise in -1..1, smoothed and multiplied (Simard et al. 2003): (3, D, H, W) voxels."""
    elastic = config.elastic_deformation
    noise = rng.uniform(-1, 1, (3, *size))
    smooth = [ndimage.gaussian_filter(one, elastic.sigma, mode="constant") for one in noise]
    return elastic.alpha * np.stack(smooth)


def _at(field: Floats, points: Floats) -> Floats:
    """A displacement at points (3,) or (3, N), linear in between."""
    where = points.reshape(3, -1)
    found = [ndimage.map_coordinates(one, where, order=1, mode="nearest") for one in field]
    return np.stack(found).reshape(points.shape)


def _rotation(degrees: NDArray[np.float64]) -> Floats:
    """About z, y and x, one after the other."""
    matrix = np.eye(3)
    for axis, (one, other) in enumerate(itertools.combinations((2, 1, 0), 2)):
        angle = math.radians(degrees[axis])
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = math.cos(angle)
        turn[one, other], turn[other, one] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return matrix
