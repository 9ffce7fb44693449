"""A network over a whole scan: overlapping windows blended into one map, and mirrored copies.

Written here rather than taken from MONAI, whose import takes 8 s of processor time in each rank;
the tests hold it against `monai.inferers`.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainyard_trainer.recipes.lung_nodule.model import CENTRE, SIZE

Size = tuple[int, int, int]
Network = Callable[[Tensor], Tensor]
_SHARPNESS = 0.125
_LEAST_WEIGHT = 1e-3
_FLIPS = {"flip_z": 0, "flip_y": 1, "flip_x": 2}


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How a volume is covered."""

    size: Size
    stride: Size
    blend: str = "gaussian"
    """gaussian: a window's border counts less, sigma an eighth of its side; constant: the same."""
    batch_size: int = 1
    """Windows at a time."""


def blended(network: Network, image: Tensor, windows: Windows) -> Tensor:
    """Weighted mean of the windows' outputs. image: (C, D, H, W). Returns (K, D, H, W)."""
    padded = pad_to(image, windows.size)
    weight = _weights(windows).to(image.device)
    starts = list(itertools.product(*map(_starts, padded.shape[1:], windows.size, windows.stride)))
    total: Tensor | None = None
    covered = torch.zeros(padded.shape[1:], device=image.device)
    for begin in range(0, len(starts), windows.batch_size):
        places = [_slices(start, windows.size) for start in starts[begin:][: windows.batch_size]]
        found = network(torch.stack([padded[(slice(None), *place)] for place in places])).float()
        if total is None:
            total = torch.zeros((found.shape[1], *padded.shape[1:]), device=image.device)
        for place, one in zip(places, found, strict=True):
            total[(slice(None), *place)] += one * weight
            covered[place] += weight
    assert total is not None  # noqa: S101
    whole = total / covered
    return whole[(slice(None), *(slice(0, side) for side in image.shape[1:]))]


def pad_to(image: Tensor, size: Size) -> Tensor:
    """Zeros behind each axis that is shorter than a window. image: (C, D, H, W)."""
    lacking = [max(0, wanted - side) for wanted, side in zip(size, image.shape[1:], strict=True)]
    return F.pad(image, [amount for lack in reversed(lacking) for amount in (0, lack)])


@dataclass(frozen=True)
class View:
    """Mirrored along axes (0 z, 1 y, 2 x), then turned by so many quarters from y towards x."""

    flips: tuple[int, ...] = ()
    quarters: int = 0

    def apply(self, image: Tensor) -> Tensor:
        """(C, D, H, W) to the same, H and W perhaps exchanged."""
        flipped = image.flip([axis + 1 for axis in self.flips])
        return torch.rot90(flipped, self.quarters, (2, 3))

    def undo(self, maps: Tensor) -> Tensor:
        """Back to the scan's axes, the heads' vectors with it. maps: (K, D, H, W)."""
        turned = torch.rot90(maps, -self.quarters, (2, 3)).flip([a + 1 for a in self.flips])
        if len(turned) < SIZE.stop:
            return turned
        matrix = torch.tensor(self._matrix(), dtype=maps.dtype, device=maps.device)
        restored = turned.clone()
        restored[CENTRE] = torch.einsum("ij,idhw->jdhw", matrix, turned[CENTRE])
        restored[SIZE] = torch.einsum("ij,idhw->jdhw", matrix.abs(), turned[SIZE])
        return restored

    def _matrix(self) -> list[list[float]]:
        """Where this view takes the unit vectors."""
        signs = [-1.0 if axis in self.flips else 1.0 for axis in range(3)]
        quarter = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
        turn = np.linalg.matrix_power(quarter, self.quarters % 4)
        found: list[list[float]] = (turn @ np.diag(signs)).tolist()
        return found


def views(types: Sequence[str], most: int) -> list[View]:
    """The plain view first, then those with the fewest changes; none twice."""
    axes = [_FLIPS[one] for one in types if one in _FLIPS]
    quarters = range(4) if "rotate_90" in types else range(1)
    flips = [
        combination
        for count in range(len(axes) + 1)
        for combination in itertools.combinations(sorted(axes), count)
    ]
    every = [View(one, turn) for turn in quarters for one in flips]
    every.sort(key=lambda view: len(view.flips) + (view.quarters > 0))
    corners = torch.arange(8).reshape(1, 2, 2, 2)
    distinct = {tuple(view.apply(corners).flatten().tolist()): view for view in reversed(every)}
    return [view for view in every if view in distinct.values()][:most]


def averaged(network: Network, image: Tensor, windows: Windows, over: Sequence[View]) -> Tensor:
    """Mean of the blended outputs over views of the scan. Returns (K, D, H, W)."""
    total = over[0].undo(blended(network, over[0].apply(image), windows))
    for view in over[1:]:
        total = total + view.undo(blended(network, view.apply(image), windows))
    return total / len(over)


def _starts(side: int, size: int, stride: int) -> list[int]:
    """The last window ends where the volume does."""
    return [*range(0, side - size, stride), side - size]


def _slices(start: Sequence[int], size: Size) -> tuple[slice, slice, slice]:
    depth, height, width = (slice(a, a + extent) for a, extent in zip(start, size, strict=True))
    return depth, height, width


def _weights(windows: Windows) -> Tensor:
    if windows.blend == "constant":
        return torch.ones(windows.size)
    parts = []
    for side in windows.size:
        away = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        parts.append(torch.exp(-0.5 * (away / (_SHARPNESS * side)) ** 2))
    depth, height, width = parts
    weight = depth[:, None, None] * height[None, :, None] * width[None, None, :]
    return weight.clamp(min=_LEAST_WEIGHT)
