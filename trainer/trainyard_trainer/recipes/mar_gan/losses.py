"""Losses of generator and discriminator, on images in [-1, 1] of shape (B, 1, H, W).

M = 1[y > threshold] is the metal in the artefact image y, B = maxpool_{2r+1}(M) a square band of
radius r around it, and w = min(1 + beta * B, w_max) a weight for each pixel. x is the metal-free
image, x' the generator's. With a binary band and beta = 1, w is 1 or 2: w_max = 3 never binds.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainyard_trainer.recipes.mar_gan.discriminator import Verdict

Projector = Callable[[Tensor], Tensor]


def metal_mask(artefact: Tensor, threshold: float) -> Tensor:
    """M: 1 where the artefact image exceeds the threshold, else 0."""
    return (artefact > threshold).to(artefact.dtype)


def dilate(mask: Tensor, radius: int) -> Tensor:
    """B: a square of 2 * radius + 1 around each pixel of the mask; radius 0 leaves it as it is."""
    return F.max_pool2d(mask, 2 * radius + 1, stride=1, padding=radius)


def pixel_weights(band: Tensor, beta: float, w_max: float) -> Tensor:
    """w = min(1 + beta * B, w_max)."""
    return (1 + beta * band).clamp(max=w_max)


def reconstruction_loss(fake: Tensor, real: Tensor, weights: Tensor) -> Tensor:
    """mean |w (x' - x)|."""
    return (weights * (fake - real)).abs().mean()


def edge_loss(fake: Tensor, real: Tensor, weights: Tensor) -> Tensor:
    """mean w (|d/dx (x' - x)| + |d/dy (x' - x)|), by forward differences.

    A difference across the right or lower border is 0; the mean is over all pixels.
    """
    error = fake - real
    across = (weights[..., :-1] * error.diff(dim=-1).abs()).sum()
    down = (weights[..., :-1, :] * error.diff(dim=-2).abs()).sum()
    return (across + down) / error.numel()


def metal_consistency_loss(fake: Tensor, real: Tensor, metal: Tensor) -> Tensor:
    """mean |M (x' - x)|, over all pixels and not over the metal's alone."""
    return (metal * (fake - real)).abs().mean()


def physics_loss(fake: Tensor, real: Tensor, metal: Tensor, project: Projector) -> Tensor:
    """mean (1 - Mp) |P x' - P x|, with P the projector and Mp = 1[P M > 0].

    Rays that pass metal are left out: their measurement is what the artefact comes from. P is
    linear, so that one projection of the difference serves.
    """
    with torch.no_grad():
        clear = (project(metal) <= 0).float()
    return (clear * project(fake - real)).abs().mean()


def hinge_discriminator(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Tensor:
    """Sum over scales of E[relu(1 - D(x))] + E[relu(1 + D(x'))] (Lim & Ye, arXiv 1705.02894)."""
    return _total(F.relu(1 - one.logits).mean() for one in real) + _total(
        F.relu(1 + one.logits).mean() for one in fake
    )


def hinge_generator(fake: Sequence[Verdict]) -> Tensor:
    """Minus the sum over scales of E[D(x')]."""
    return -_total(one.logits.mean() for one in fake)


def bce_discriminator(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Tensor:
    """Sum over scales of -E[log s(D(x))] - E[log(1 - s(D(x')))] (Goodfellow et al. 2014, eq. 1)."""
    return _total(F.softplus(-one.logits).mean() for one in real) + _total(
        F.softplus(one.logits).mean() for one in fake
    )


def bce_generator(fake: Sequence[Verdict]) -> Tensor:
    """Sum over scales of -E[log s(D(x'))], the non-saturating form (Goodfellow et al. 2014)."""
    return _total(F.softplus(-one.logits).mean() for one in fake)


def feature_matching_loss(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Tensor:
    """Sum over scales and layers of mean |D_k(x) - D_k(x')| (arXiv 1711.11585, eq. 4); x detached.

    Raises ValueError where the discriminator has no features to match.
    """
    pairs = [
        (one, other)
        for ours, theirs in zip(real, fake, strict=True)
        for one, other in zip(ours.features, theirs.features, strict=True)
    ]
    if not pairs:
        raise ValueError("this discriminator has no features to match")
    return _total(F.l1_loss(other, one.detach()) for one, other in pairs)


def _total(terms: Iterable[Tensor]) -> Tensor:
    """sum() of tensors, which begins with an int."""
    return torch.stack(list(terms)).sum()
