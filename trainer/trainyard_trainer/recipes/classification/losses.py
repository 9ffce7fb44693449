"""The loss: cross entropy, with optional label smoothing and class weights."""

from collections.abc import Sequence

import torch
from torch import nn

from trainyard_trainer.recipes.classification.config import LossConfig


def build_loss(config: LossConfig, class_counts: Sequence[int]) -> nn.CrossEntropyLoss:
    """Mean cross entropy over a batch, in nats.

    class_counts: training images of each class, used where class_weights is `balanced`.
    """
    weight = None
    if config.class_weights == "balanced":
        counts = torch.tensor(class_counts, dtype=torch.float32)
        weight = counts.sum() / (len(counts) * counts)
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=config.label_smoothing)
