"""Scores of reconstructed images, one number an image; images in [-1, 1], so that the range is 2.

Regions are masks: the metal, the band around it, and the rest. An image without metal has no score
in two of them: NaN, which `mean_of` leaves out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def mse(image: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
    """(B,): mean squared error of (B, 1, H, W), within the region where one is given."""
    return _mean((image - target).square(), region)


def mae(image: Tensor, target: Tensor, region: Tensor | None = None) -> Tensor:
    """(B,): mean absolute error."""
    return _mean((image - target).abs(), region)


def psnr(squared_error: Tensor) -> Tensor:
    """10 log10(range^2 / mse), in dB; infinite for equal images."""
    return 10 * torch.log10(RANGE**2 / squared_error)


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """(B,): structural similarity (Wang et al. 2004, eq. 13), 11x11 Gaussian of sigma 1.5.

    The mean leaves out the 5 border pixels, whose windows are not whole.
    """
    kernel = _gaussian(image)
    pairs = torch.cat([image, target, image * image, target * target, image * target])
    one, other, one_one, other_other, one_other = F.conv2d(pairs, kernel).chunk(5)
    variances = one_one - one * one + other_other - other * other
    covariance = one_other - one * other
    luminance = (2 * one * other + (_K1 * RANGE) ** 2) / (
        one * one + other * other + (_K1 * RANGE) ** 2
    )
    structure = (2 * covariance + (_K2 * RANGE) ** 2) / (variances + (_K2 * RANGE) ** 2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def regions(metal: Tensor, band: Tensor) -> dict[str, Tensor]:
    """Disjoint masks that cover the image: `metal`, `band` without the metal, `rest`."""
    around = band * (1 - metal)
    return {"metal": metal, "band": around, "rest": 1 - metal - around}


def mean_of(values: Tensor) -> float:
    """Over the images that have this score; NaN if none has."""
    return values.double().nanmean().item()


def _mean(values: Tensor, region: Tensor | None) -> Tensor:
    if region is None:
        return values.mean(dim=(1, 2, 3))
    return (values * region).sum(dim=(1, 2, 3)) / region.sum(dim=(1, 2, 3))


def _gaussian(like: Tensor) -> Tensor:
    """(1, 1, 11, 11), of sum 1."""
    offsets = torch.arange(_WINDOW, dtype=like.dtype, device=like.device) - _WINDOW // 2
    row = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    row = row / row.sum()
    return (row[:, None] * row)[None, None]
