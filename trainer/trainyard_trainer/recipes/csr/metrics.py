"""Scores of labels and of the maps that explain them."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

Roc = tuple[list[float], list[float]]
"""False and true positive rates."""


def aucs(scores: Tensor, labels: Tensor) -> list[float | None]:
    """Area under each label's ROC curve; None where all images have it, or none has.

    scores, labels: (N, L).
    """
    from sklearn.metrics import roc_auc_score  # A second, spent by rank 0 alone.

    found: list[float | None] = []
    for column in range(labels.shape[1]):
        truth, score = labels[:, column].numpy(), scores[:, column].numpy()
        both = 0 < truth.sum() < len(truth)
        found.append(float(roc_auc_score(truth, score)) if both else None)
    return found


def mean_auc(scores: Tensor, labels: Tensor) -> float:
    """Mean over the labels that have both kinds of images; NaN where none has."""
    known = [area for area in aucs(scores, labels) if area is not None]
    return float(np.mean(known)) if known else float("nan")


def roc(scores: Tensor, labels: Tensor) -> Roc | None:
    """scores, labels: (N,). None where all labels are the same."""
    from sklearn.metrics import roc_curve

    if not 0 < labels.sum() < len(labels):
        return None
    false, true, _ = roc_curve(labels.numpy(), scores.numpy())
    return false.tolist(), true.tolist()


def pointing(maps: Tensor, boxes: Tensor) -> Tensor:
    """The pointing game (Zhang et al. 2016): whether a map's peak lies in a box of its concept.

    maps: (B, K, H, W). boxes: (B, K, G, G) bool. Returns (4,) int64: hits; pairs of image and
    concept that have a box; the cells in their boxes, and all their cells.
    """
    height, width = maps.shape[2:]
    peaks = maps.flatten(2).argmax(dim=-1)  # (B, K)
    grid = boxes.shape[-1]
    rows = (peaks // width * 2 + 1) * grid // (2 * height)
    columns = (peaks % width * 2 + 1) * grid // (2 * width)
    flat = boxes.flatten(2)  # (B, K, GG)
    hits = flat.gather(2, (rows * grid + columns)[..., None])[..., 0]
    pairs = flat.any(dim=-1).sum()
    return torch.stack([hits.sum(), pairs, flat.sum(), pairs * grid * grid])


def pointing_shares(counted: Mapping[str, Tensor]) -> dict[str, float]:
    """Shares of hits by what points, and pointing_chance: what peaks anywhere at random would hit.

    counted: (4,) of `pointing`, of the same images, by what points; {} where there is no box.
    """
    found: dict[str, float] = {}
    for name, counts in counted.items():
        hits, pairs, inside, cells = counts.tolist()
        if pairs:
            found |= {name: hits / pairs, "pointing_chance": inside / cells}
    return found
