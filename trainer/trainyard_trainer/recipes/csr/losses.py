"""Losses of the three stages."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def positive_weights(labels: Tensor, largest: float = 20.0) -> Tensor:
    """Negatives by positives of each label, at most `largest`: what BCE weighs positives with.

    labels: (N, L) of 0 and 1, of all training images. Returns (L,).
    """
    positives = labels.sum(dim=0)
    return ((len(labels) - positives) / positives.clamp(min=1)).clamp(max=largest)


def info_nce(similarities: Tensor, labels: Tensor, gamma: float, temperature: float) -> Tensor:
    """Each concept that is present against all others (van den Oord et al. 2018, eq. 4).

    similarities: (B, K, K, M), see CSR.concept_similarities. labels: (B, K) of 0 and 1. The mean
    over an image's concepts, then over all images, those without any counting 0, so that ranks'
    means add up to the batch's. Nats.
    """
    pooled = soft_similarities(similarities, gamma)
    return _mean_of_present(-F.log_softmax(pooled / temperature, dim=-1), labels)


def soft_triple(
    similarities: Tensor, labels: Tensor, gamma: float, scale: float, margin: float
) -> Tensor:
    """SoftTriple loss of each concept that is present (Qian et al., ICCV 2019, eq. 6 and 7).

    Arguments and mean as for `info_nce`; scale is lambda, margin is delta.
    """
    pooled = soft_similarities(similarities, gamma)
    concepts = pooled.shape[-1]
    pooled = pooled - margin * torch.eye(concepts, device=pooled.device)
    return _mean_of_present(-F.log_softmax(scale * pooled, dim=-1), labels)


def soft_similarities(similarities: Tensor, gamma: float) -> Tensor:
    """sum_m q_m <p_jm, v'_k> with q = softmax over m of gamma <p_jm, v'_k>: (B, K, K)."""
    return ((gamma * similarities).softmax(dim=-1) * similarities).sum(dim=-1)


def images_without_one_label(labels: Sequence[Sequence[int]]) -> list[int]:
    """Rows that do not have exactly one 1."""
    return [row for row, values in enumerate(labels) if sum(values) != 1]


def _mean_of_present(losses: Tensor, labels: Tensor) -> Tensor:
    own = losses.diagonal(dim1=1, dim2=2)  # (B, K): of concept k against its own prototypes.
    present = labels.to(own.dtype)
    return ((own * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)).mean()
