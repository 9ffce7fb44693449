"""Test-time augmentation: mirrored and turned images, and the mean of what is said of them."""

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from trainyard_trainer.config import Section


class TtaOptions(Section):
    """What prediction can be told."""

    tta: int = Field(default=1, ge=1, le=8)
    """Views of an image to average over: 1 is the image alone, 2 adds its mirror image, 4 all
    mirrored ones, 8 those turned by a quarter as well."""


def views_of(images: Tensor, count: int) -> list[Tensor]:
    """The first of the eight symmetries of a square. images: (B, C, S, S)."""
    plain = [images, images.flip(3), images.flip(2), images.flip(2, 3)]
    return [*plain, *(view.transpose(2, 3) for view in plain)][:count]


def mean_probabilities(network: Callable[[Tensor], Tensor], images: Tensor, count: int) -> Tensor:
    """(B, C): softmax of each view's logits, averaged. images: (B, 3, S, S), normalised."""
    found = [network(view).float().softmax(dim=1) for view in views_of(images, count)]
    return torch.stack(found).mean(dim=0)
