"""Small scans in LUNA16's layout, for the tests of recipe lung-nodule."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainyard_trainer.recipes.lung_nodule.grid import Grid
from trainyard_trainer.recipes.lung_nodule.volumes import write_volume

GRID = Grid(shape=(12, 16, 20), spacing=(2.5, 0.7, 0.8), origin=(-300.0, -150.0, 90.5))
HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm"


def write_scan(
    folder: Path, uid: str, balls: Sequence[tuple[int, int, int]] = (), grid: Grid = GRID
) -> Path:
    """Air with a dense ball of 6 mm at each voxel given."""
    voxels = np.full(grid.shape, -800, dtype=np.int16)
    at = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    for ball in balls:
        away = np.linalg.norm((at - ball) * grid.spacing, axis=-1)
        voxels[away <= 3] = 50
    file = folder / f"{uid}.mhd"
    write_volume(file, voxels, grid)
    return file


def luna_row(
    uid: str, voxel: tuple[int, int, int], diameter: float = 6.0, grid: Grid = GRID
) -> str:
    z, y, x = grid.to_world(np.asarray(voxel, dtype=np.float64)).tolist()
    return f"{uid},{x:.4f},{y:.4f},{z:.4f},{diameter}"


def write_luna(root: Path, subsets: int = 3, grid: Grid = GRID) -> Path:
    """One scan with one nodule in each subset."""
    rows = [HEADER]
    for number in range(subsets):
        ball = (6, 8, 6 + 2 * number)
        write_scan(root / f"subset{number}", f"scan{number}", [ball], grid)
        rows.append(luna_row(f"scan{number}", ball, grid=grid))
    (root / "annotations.csv").write_text("\n".join(rows) + "\n")
    return root


SMALL = {
    "data": {
        "patch_size": [8, 8, 8],
        "stride": [4, 4, 4],
        "train_subsets": [0],
        "val_subsets": [1],
        "test_subsets": [2],
    },
    "model": {"base_filters": 2, "depth": 1},
    "training": {"epochs": 1, "batch_size": 2},
    "inference": {"bootstraps": 20},
}
"""A configuration for these scans."""
