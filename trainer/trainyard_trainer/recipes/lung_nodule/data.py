"""Samples: patches to train on, whole scans to be judged on, and how both become batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainyard_trainer.recipes.lung_nodule.annotations import Nodule
from trainyard_trainer.recipes.lung_nodule.grid import Grid, Triple
from trainyard_trainer.recipes.lung_nodule.scans import Scan, with_least_diameter
from trainyard_trainer.recipes.lung_nodule.targets import IGNORED, PADDING, ROW, TARGET
from trainyard_trainer.recipes.lung_nodule.volumes import VolumeCache, Voxels

Windows = tuple[tuple[float, float], ...]


class Patch(NamedTuple):
    """A training sample before it is cut out: the augmentation decides where exactly."""

    scan: Scan
    nodule: Nodule | None
    """What it is cut around; None: a random place."""


class Cut(NamedTuple):
    """A patch as the network gets it."""

    image: Tensor
    """(C, D, H, W), each HU window scaled to 0..1."""
    findings: Tensor
    """(M, 6): see targets.py; the nodule it was cut for comes first, or else padding."""
    spacing: Tensor
    """(3,) mm."""


class Patches:
    """Two kinds of sample for each scan: one for every nodule, and some from anywhere."""

    def __init__(
        self, scans: Sequence[Scan], least_diameter: float, anywhere_per_nodule: float
    ) -> None:
        """anywhere_per_nodule: random patches beside each nodule; a scan has at least one."""
        self._samples: list[Patch] = []
        for whole in scans:
            scan = with_least_diameter(whole, least_diameter)
            self._samples += [Patch(scan, nodule) for nodule in scan.nodules]
            anywhere = max(1, round(anywhere_per_nodule * len(scan.nodules)))
            self._samples += [Patch(scan, None)] * (anywhere if anywhere_per_nodule else 0)

    def __len__(self) -> int:
        """Patches of an epoch."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Patch:
        """What is to be cut."""
        return self._samples[index]


class WholeScan(NamedTuple):
    """A scan to be judged on."""

    scan: Scan
    image: Tensor
    """(C, D, H, W)."""
    grid: Grid
    findings: Tensor
    """(M, 6) in voxels of `grid`."""
    number: int
    """In its split."""


class WholeScans:
    """Scans one by one, read when they are asked for."""

    def __init__(
        self, scans: Sequence[Scan], cache: VolumeCache, spacing: Triple | None, windows: Windows
    ) -> None:
        self.scans = list(scans)
        self._cache, self._spacing, self._windows = cache, spacing, windows

    def __len__(self) -> int:
        """Scans in this split."""
        return len(self.scans)

    def __getitem__(self, index: int) -> WholeScan:
        """Voxels and findings."""
        scan = self.scans[index]
        grid = grid_at(scan, self._spacing)
        image = windowed(self._cache.whole(scan.file), self._windows)
        return WholeScan(scan, image, grid, rows_of(scan, grid), index)


def grid_at(scan: Scan, spacing: Triple | None) -> Grid:
    """Where the voxels lie that are trained on."""
    return scan.grid if spacing is None else scan.grid.resampled(spacing)


def windowed(voxels: Voxels, windows: Windows) -> Tensor:
    """HU (D, H, W) to (C, D, H, W) in 0..1: a channel for each window."""
    channels = [np.clip((voxels - low) / (high - low), 0, 1) for low, high in windows]
    return torch.from_numpy(np.stack(channels).astype(np.float32))


def rows_of(scan: Scan, grid: Grid) -> Tensor:
    """All findings as rows: nodules, then irrelevant ones. Returns (M, 6)."""
    kinds = [(one, TARGET) for one in scan.nodules] + [(one, IGNORED) for one in scan.irrelevant]
    rows = [row_of(one, kind, grid.to_voxel(np.asarray(one.centre))) for one, kind in kinds]
    return torch.tensor(np.array(rows, dtype=np.float32).reshape(-1, ROW))


def row_of(finding: Nodule, kind: int, voxel: NDArray[np.float64]) -> list[float]:
    """One row: see targets.py."""
    label = float("nan") if finding.is_malignant is None else float(finding.is_malignant)
    return [*voxel.tolist(), finding.diameter, float(kind), label]


@dataclass(frozen=True)
class Batch:
    """Patches under one another."""

    image: Tensor
    """(B, C, D, H, W)."""
    findings: Tensor
    """(B, M, 6), padded."""
    spacing: Tensor
    """(B, 3) mm."""


def collate(samples: list[Any]) -> Batch | list[WholeScan]:
    """Patches become one batch; whole scans, of different sizes, stay a list."""
    if isinstance(samples[0], WholeScan):
        return samples
    most = max(1, *(len(sample.findings) for sample in samples))
    findings = torch.full((len(samples), most, ROW), float(PADDING))
    for row, sample in enumerate(samples):
        findings[row, : len(sample.findings)] = sample.findings
    return Batch(
        image=torch.stack([sample.image for sample in samples]),
        findings=findings,
        spacing=torch.stack([sample.spacing for sample in samples]),
    )
