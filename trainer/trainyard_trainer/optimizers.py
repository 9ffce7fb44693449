"""Build an optimizer from its configuration."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from trainyard_trainer.config import OptimizerConfig


def build_optimizer(
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    config: OptimizerConfig,
    learning_rate: float,
) -> Optimizer:
    """An optimizer over parameters or parameter groups; groups may carry their own `lr`."""
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(
        parameters,
        lr=learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )
