"""Where a scan's voxels lie in the world. Every triple here is in the order z, y, x."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Triple = tuple[float, float, float]
Floats = NDArray[np.float64]
AXES: tuple[Triple, Triple, Triple] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A box of voxels: world = origin + axes @ (spacing * index)."""

    shape: tuple[int, int, int]
    spacing: Triple
    """Millimetres."""
    origin: Triple
    """World millimetres of the centre of voxel 0."""
    axes: tuple[Triple, Triple, Triple] = AXES
    """Column k is the direction in the world of index axis k; orthonormal."""

    def to_world(self, voxels: Floats) -> Floats:
        """(..., 3) indices, fractions allowed, to millimetres."""
        scaled = np.asarray(voxels) * self.spacing
        world: Floats = scaled @ np.asarray(self.axes).T + self.origin
        return world

    def to_voxel(self, world: Floats) -> Floats:
        """Undo `to_world`."""
        turned = (np.asarray(world) - self.origin) @ np.asarray(self.axes)
        voxels: Floats = turned / self.spacing
        return voxels

    def contains(self, world: Floats) -> bool:
        """Whether a point lies in the box, up to the outer faces of its voxels."""
        voxel = self.to_voxel(world)
        return bool(np.all(voxel >= -0.5) and np.all(voxel <= np.asarray(self.shape) - 0.5))

    def resampled(self, spacing: Triple) -> "Grid":
        """The same place in the world in other steps; voxel 0 stays where it is."""
        old = np.asarray(self.shape) * self.spacing
        depth, height, width = np.maximum(1, np.round(old / spacing)).astype(int).tolist()
        return Grid(
            shape=(depth, height, width), spacing=spacing, origin=self.origin, axes=self.axes
        )
