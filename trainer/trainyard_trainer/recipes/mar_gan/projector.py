"""A differentiable parallel-beam projector: rotate and sum."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ParallelBeam(nn.Module):
    """The Radon transform, (P x)(a, s): sums along the rays at angle a and offset s, in pixels.

    The image is rotated about its centre by bilinear sampling and its columns are summed; what lies
    outside of it counts as 0. Linear in the image, so that gradients are exact.
    """

    def __init__(self, angles: int = 180, chunk: int = 30) -> None:
        """angles: evenly over half a turn. chunk: how many are computed at a time, for memory."""
        super().__init__()
        turns = torch.arange(angles, dtype=torch.float64) * math.pi / angles
        cos, sin, none = turns.cos(), turns.sin(), torch.zeros_like(turns)
        rows = torch.stack([cos, -sin, none, sin, cos, none], dim=1).reshape(angles, 2, 3)
        self.register_buffer("rotations", rows, persistent=False)
        self.chunk = chunk

    rotations: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 1, S, S), square. Returns (B, angles, S)."""
        with torch.autocast(images.device.type, enabled=False):
            whole = images if images.dtype == torch.float64 else images.float()
            parts = [self._project(whole, part) for part in self.rotations.split(self.chunk)]
        return torch.cat(parts, dim=1)

    def _project(self, images: Tensor, rotations: Tensor) -> Tensor:
        """The batch takes the place of channels: a rotation's grid serves all of it."""
        batch, _, side, width = images.shape
        count = len(rotations)
        grid = F.affine_grid(
            rotations.to(images), [count, 1, side, width], align_corners=False
        )  # (A, S, S, 2)
        stacked = images.transpose(0, 1).expand(count, batch, side, width)
        rotated = F.grid_sample(stacked, grid, align_corners=False)  # (A, B, S, S)
        return rotated.sum(dim=2).transpose(0, 1)
