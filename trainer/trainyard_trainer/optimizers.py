"""Build an optimizer from its configuration."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.config import OptimizerConfig
from trainyard_trainer.errors import ConfigurationError

_OWN = ("initial_lr", "fused", "foreach", "capturable", "differentiable")
"""What a parameter group has from the configuration and this machine, not from a checkpoint."""


def build_optimizer(
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    config: OptimizerConfig,
    learning_rate: float,
) -> Optimizer:
    """An optimizer over parameters or parameter groups; groups may carry their own `lr`.

    Raises ConfigurationError where `config.fused` is true and a parameter is no real number.
    """
    groups = _as_groups(parameters)
    fused = _is_fused([tensor for group in groups for tensor in group["params"]], config.fused)
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
            fused=fused,
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(
        groups,
        lr=learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def _as_groups(parameters: Iterable[Any]) -> list[dict[str, Any]]:
    """Parameters may come as an iterator, which can be read only once."""
    given = list(parameters)
    if not given or not isinstance(given[0], dict):
        return [{"params": given}]
    return [group | {"params": _as_list(group["params"])} for group in given]


def _as_list(params: Any) -> list[Tensor]:
    return [params] if isinstance(params, Tensor) else list(params)


def _is_fused(tensors: list[Tensor], wanted: bool | None) -> bool | None:
    """None leaves the choice to torch, which takes several kernels for many tensors or a loop."""
    is_possible = all(
        tensor.is_floating_point() and tensor.device.type in ("cpu", "cuda") for tensor in tensors
    )
    if wanted and not is_possible:
        raise ConfigurationError(
            "spec.config.training.optimizer.fused: a parameter is complex or on a device without "
            "fused optimizers; write 'false', or leave it out."
        )
    return is_possible or None if wanted is None else wanted


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """All parameters that an optimizer changes."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Undo its `state_dict`, which may come from another device.

    Base rates and kernels stay those that it was built with; torch would take the checkpoint's.
    """
    groups = [
        saved | {key: group[key] for key in _OWN if key in group}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
