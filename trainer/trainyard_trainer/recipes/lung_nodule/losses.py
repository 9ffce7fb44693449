"""Detection, regression and triage losses, each a value per sample.

Nothing here mixes samples: however a batch is cut over ranks and micro-batches, the gradient of the
mean over samples is the same.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WITHOUT_POSITIVES = 100
"""Negatives that mining keeps of a sample that has no positive at all."""


@dataclass(frozen=True, kw_only=True)
class Mining:
    """Online hard negative mining (Shrivastava et al. 2016, arxiv.org/abs/1604.03540)."""

    neg_pos_ratio: float = 3.0
    batch_hard_ratio: float = 0.5


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t (Lin et al. 2017, eq. 5), element by element, in nats.

    target: in 0..1. Between the two a voxel counts as a positive by its target, and as a negative
    by the fourth power of what is missing (Law & Deng 2018, arxiv.org/abs/1808.01244, eq. 1): else
    the many voxels around a nodule's centre would drown it.
    """
    probability = torch.sigmoid(logits)
    positive = alpha * (1 - probability) ** gamma * -F.logsigmoid(logits)
    negative = (1 - alpha) * probability**gamma * -F.logsigmoid(-logits)
    return target * positive + (1 - target) ** 4 * negative


def dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0, squared: bool = True) -> Tensor:
    """1 - (2 sum p t + smooth) / (sum p + sum t + smooth) (Milletari et al. 2016, eq. 3).

    squared: sums of squares below, as in the paper. logits, target: (B, ...). Returns (B,).
    """
    probability, target = torch.sigmoid(logits).flatten(1), target.flatten(1)
    overlap = (probability * target).sum(1)
    power = 2 if squared else 1
    whole = (probability**power).sum(1) + (target**power).sum(1)
    return 1 - (2 * overlap + smooth) / (whole + smooth)


def mine_hard_negatives(
    losses: Tensor, is_positive: Tensor, is_counted: Tensor, mining: Mining
) -> Tensor:
    """Which voxels count: all positives and the negatives with the highest losses.

    Of N negatives beside P positives, min(ceil(ratio P), ceil(batch_hard_ratio N)) are kept, and
    WITHOUT_POSITIVES in place of the first where P is 0. All (B, V); returns (B, V) bool.
    """
    is_positive = is_positive & is_counted
    is_negative = ~is_positive & is_counted
    positives, negatives = is_positive.sum(1), is_negative.sum(1)  # (B,)
    wanted = torch.ceil(mining.neg_pos_ratio * positives)
    wanted = torch.where(positives > 0, wanted, WITHOUT_POSITIVES)
    kept = torch.minimum(wanted, torch.ceil(mining.batch_hard_ratio * negatives))
    hardness = losses.detach().masked_fill(~is_negative, -torch.inf)
    order = hardness.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(losses.shape[1], device=losses.device)
    is_hard = torch.zeros_like(is_negative).scatter(1, order, rank < kept[:, None])
    return is_positive | (is_hard & is_negative)


def mean_where(values: Tensor, is_counted: Tensor) -> Tensor:
    """Mean of the counted ones in each row, 0 where there is none. Both (B, V); returns (B,)."""
    total = (values * is_counted).sum(1)
    return total / is_counted.sum(1).clamp(min=1)


def regression_loss(
    predicted: Tensor, target: Tensor, has_target: Tensor, beta: float = 1.0
) -> Tensor:
    """Smooth L1 (Girshick 2015, eq. 3), mean over the last dimension; 0 without a target.

    predicted, target: (B, K). has_target: (B,) bool. Returns (B,).
    """
    # A target that is absent may be NaN, and 0 * NaN is NaN.
    target = torch.where(has_target[:, None], target, predicted.detach())
    return F.smooth_l1_loss(predicted, target, beta=beta, reduction="none").mean(1) * has_target


def triage_loss(
    logits: Tensor, label: Tensor, has_label: Tensor, pos_weight: float = 3.0
) -> Tensor:
    """Binary cross entropy with positives weighted, in nats; 0 without a label. All (B,)."""
    label = torch.where(has_label, label, torch.zeros_like(label))
    weight = torch.tensor(pos_weight, device=logits.device, dtype=logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, label, pos_weight=weight, reduction="none")
    return losses * has_label
