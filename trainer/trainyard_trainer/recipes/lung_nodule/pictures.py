"""What a person looks at: FROC curves, and slices through scans with what was found in them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainyard_trainer.pictures import Curves, Grid, Line
from trainyard_trainer.recipes.lung_nodule.candidates import Candidates
from trainyard_trainer.recipes.lung_nodule.data import WholeScan
from trainyard_trainer.recipes.lung_nodule.froc import RATES, Floats, Froc
from trainyard_trainer.recipes.lung_nodule.grid import Grid as VoxelGrid
from trainyard_trainer.recipes.lung_nodule.metrics import rows

Pixels = NDArray[np.uint8]
Slice = NDArray[np.float32]
Mark = tuple[float, float, float, tuple[int, int, int]]
"""Centre y and x, and radius, in voxels; a colour."""
MOST_SAMPLES = 4
GREEN, RED = (60, 220, 60), (235, 60, 60)
_MOST_MARKS = 5


class Sample(NamedTuple):
    """A slice through a scan's largest nodule."""

    caption: str
    marked: Pixels
    """(H, W, 3): the scan with nodules in green and candidates in red."""
    output: Slice
    """(H, W) in 0..1, as is the target."""
    target: Slice


def froc_picture(curves: Mapping[str, Froc], title: str) -> Curves:
    """Sensitivity over false positives a scan, from 1/8 to 8 on a logarithmic axis."""
    lines: dict[str, Line] = {}
    for name, curve in curves.items():
        at = np.geomspace(RATES[0], RATES[-1], 200)
        found = np.interp(at, curve.rates, curve.sensitivity)
        lines[f"{name} {curve.score:.3f}"] = (np.log2(at).tolist(), found.tolist())
    return Curves(
        lines=lines, x_label="log2 of false positives a scan", y_label="sensitivity", title=title
    )


def draw_marks(plane: Slice, marks: Sequence[Mark]) -> Pixels:
    """A slice in grey with circles around findings. plane: (H, W) in 0..1."""
    grey = (np.clip(plane, 0, 1) * 255).astype(np.uint8)
    picture = np.stack([grey] * 3, axis=-1)  # (H, W, 3)
    for y, x, radius, colour in marks:
        rows, columns = np.indices(grey.shape)
        away = np.hypot(rows - y, columns - x)
        picture[np.abs(away - radius) < 0.7] = colour
    return picture


def sample_of(
    sample: WholeScan, output: Tensor, target: Tensor, candidates: Candidates, threshold: float
) -> Sample:
    """output, target: (D, H, W) in 0..1. threshold: least probability of a candidate drawn."""
    nodules, grid = rows(sample.scan.nodules), sample.grid
    middle = np.asarray(grid.shape)[0] / 2
    centre = grid.to_voxel(nodules[nodules[:, 3].argmax(), :3]) if len(nodules) else [middle]
    depth = int(np.clip(round(float(centre[0])), 0, grid.shape[0] - 1))
    likely = candidates[candidates[:, 3] >= threshold][:_MOST_MARKS]
    found = np.column_stack([likely[:, :3], np.nan_to_num(likely[:, 4], nan=8.0)])
    marks = [*_marks(nodules, grid, depth, GREEN), *_marks(found, grid, depth, RED)]
    return Sample(
        caption=sample.scan.uid[-12:],
        marked=draw_marks(sample.image[0, depth].cpu().numpy(), marks),
        output=output[depth].float().cpu().numpy(),
        target=target[depth].float().cpu().numpy(),
    )


def sample_grid(columns: Sequence[Sample]) -> Grid | None:
    """Input, output, target and error of a few scans of one size; None where there is none."""
    shown = [one for one in columns if one.output.shape == columns[0].output.shape]
    if not shown:
        return None
    return Grid(
        rows={
            "input: nodules green, candidates red": [one.marked for one in shown],
            "output": [one.output for one in shown],
            "target": [one.target for one in shown],
            "error": [abs(one.output - one.target) for one in shown],
        },
        captions=[one.caption for one in shown],
    )


def _marks(
    findings: Floats, grid: VoxelGrid, depth: int, colour: tuple[int, int, int]
) -> list[Mark]:
    """Of what reaches into a slice. findings: (N, 4), world millimetres and diameter."""
    voxels = grid.to_voxel(findings[:, :3]).reshape(-1, 3)
    step = grid.spacing[1]
    return [
        (y, x, diameter / 2 / step + 2, colour)
        for (z, y, x), diameter in zip(voxels.tolist(), findings[:, 3].tolist(), strict=True)
        if abs(z - depth) * grid.spacing[0] <= max(diameter / 2, grid.spacing[0])
    ]
