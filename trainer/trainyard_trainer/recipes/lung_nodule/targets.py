"""What a network is to say of a volume: a heatmap, and which voxels are asked for it.

Findings travel as (M, 6) float32 rows: centre z, y, x in voxels, diameter in mm, kind, malignancy
(NaN: no label). Kind 1 is a nodule, -1 one that is neither looked for nor wrong to find, 0 padding.
"""

import math

import torch
from torch import Tensor

SIGMA_MM = 3.0
ROW = 6
TARGET, IGNORED, PADDING = 1, -1, 0


def gaussian(centres: Tensor, spacing: Tensor, shape: torch.Size, sigma: float | Tensor) -> Tensor:
    """exp(-d^2 / 2 sigma^2) of the distance d in mm to one point in each volume, 1 at its centre.

    centres: (B, 3) voxels. spacing: (B, 3) mm. shape: (D, H, W). sigma: mm, for all or (B, 1).
    Returns (B, D, H, W).
    """
    parts = []
    for axis, side in enumerate(shape):
        at = torch.arange(side, device=centres.device, dtype=centres.dtype)
        away = (at[None] - centres[:, axis, None]) * spacing[:, axis, None]  # (B, side), mm
        parts.append(torch.exp(-0.5 * (away / sigma) ** 2))
    depth, height, width = parts
    return depth[:, :, None, None] * height[:, None, :, None] * width[:, None, None, :]


def heatmap(findings: Tensor, spacing: Tensor, shape: torch.Size, sigma: float) -> Tensor:
    """The nodules' Gaussians combined by maximum. findings: (B, M, 6). Returns (B, D, H, W)."""
    found = findings.new_zeros((len(findings), *shape))
    for column in range(findings.shape[1]):
        one = findings[:, column]
        is_target = (one[:, 4] == TARGET)[:, None, None, None]
        found = torch.maximum(found, gaussian(one[:, :3], spacing, shape, sigma) * is_target)
    return found


def counted(findings: Tensor, spacing: Tensor, shape: torch.Size, sigma: float) -> Tensor:
    """False within an ignored finding and one sigma around it. Returns (B, D, H, W) bool."""
    asked = torch.ones((len(findings), *shape), dtype=torch.bool, device=findings.device)
    for column in range(findings.shape[1]):
        one = findings[:, column]
        radius = one[:, 3, None] / 2 + sigma  # (B, 1), mm
        near = gaussian(one[:, :3], spacing, shape, radius) >= math.exp(-0.5)
        asked &= ~(near & (one[:, 4] == IGNORED)[:, None, None, None])
    return asked


def primary(findings: Tensor) -> tuple[Tensor, Tensor]:
    """The nodule that a patch was cut for, which comes first: (B, 6), and whether it is one."""
    first = findings[:, 0]
    return first, first[:, 4] == TARGET
