"""Random changes to a training image: one affine resampling, then contrast and brightness.

The generator comes from the engine, seeded by (seed, epoch, index of the sample), so that a resumed
run, another number of workers or another world size shows every sample the same way.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainyard_trainer.recipes.classification.config import AugmentationConfig

_DRAWS = 8
"""Numbers drawn for each image, used or not: switching one change on leaves the others as they
were."""


def augment_image(image: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    """Apply the configured changes. image: (3, H, W) uint8; returns the same."""
    draws = rng.random(_DRAWS).tolist()
    changed = image.float() / 255
    if config.moves_pixels:
        changed = _resample(changed, _affine_rows(config, draws))
    if config.brightness or config.contrast:
        changed = _recolour(changed, config, draws)
    return (changed * 255).round().to(torch.uint8)


def augment_sample(
    config: AugmentationConfig, sample: tuple[Tensor, Tensor], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """`augment_image` for an image beside its class, which stays."""
    image, target = sample
    return augment_image(image, config, rng), target


def _affine_rows(config: AugmentationConfig, draws: list[float]) -> list[list[float]]:
    """2x3: where in the source, its side running from -1 to 1, an output pixel is read from."""
    angle = math.radians(config.rotation_degrees) * _signed(draws[0])
    zoom = 1 / (1 + config.scale * _signed(draws[1]))
    flip_x = -1 if draws[2] < config.horizontal_flip else 1
    flip_y = -1 if draws[3] < config.vertical_flip else 1
    shift_x, shift_y = (2 * config.translation * _signed(draw) for draw in draws[4:6])
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    return [[cos * flip_x, -sin * flip_x, shift_x], [sin * flip_y, cos * flip_y, shift_y]]


def _resample(image: Tensor, rows: list[list[float]]) -> Tensor:
    """Bilinear; what lies outside the image takes its border's colour."""
    matrix = torch.tensor(rows)[None]  # (1, 2, 3)
    grid = F.affine_grid(matrix, [1, *image.shape], align_corners=False)  # (1, H, W, 2)
    return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


def _recolour(image: Tensor, config: AugmentationConfig, draws: list[float]) -> Tensor:
    mean = image.mean()
    contrasted = mean + (image - mean) * (1 + config.contrast * _signed(draws[6]))
    return (contrasted * (1 + config.brightness * _signed(draws[7]))).clamp(0, 1)


def _signed(draw: float) -> float:
    """[0, 1) to [-1, 1)."""
    return 2 * draw - 1
