"""Corrections by a person at inference: boxes on the image, and concepts that are not there.

Huy et al. 2025, section 3.4: a map that is 1 in a positive box, 0 in a negative one and alpha
elsewhere multiplies the similarity maps; the similarities of a rejected concept are set to 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainyard_trainer.errors import ConfigurationError


@dataclass(frozen=True)
class Box:
    """A rectangle on the image, in shares of its sides: 0 <= left < right <= 1."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        """Raises ConfigurationError for an empty box, or one outside the image."""
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ConfigurationError(
                f"box {self.left},{self.top},{self.right},{self.bottom}: is not left,top,right,"
                "bottom in shares of the image's sides, such as 0.1,0.2,0.4,0.5."
            )

    def cover(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a map that the box touches, at least one of each."""
        return cells(self.top, self.bottom, height), cells(self.left, self.right, width)


def factor_map(
    size: tuple[int, int],
    positive: Sequence[Box] = (),
    negative: Sequence[Box] = (),
    alpha: float = 0.5,
) -> Tensor:
    """(H, W): 1 in positive boxes, 0 in negative ones, alpha elsewhere; negative ones win."""
    factors = torch.full(size, alpha)
    for value, boxes in ((1.0, positive), (0.0, negative)):
        for box in boxes:
            factors[box.cover(*size)] = value
    return factors


def cells(low: float, high: float, count: int) -> slice:
    """Which of `count` cells the shares low..high of a side touch, at least one."""
    first = min(int(low * count), count - 1)
    return slice(first, max(first + 1, round(high * count)))
