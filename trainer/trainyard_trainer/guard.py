"""Keeps the weights as they were before the first loss that is not finite.

Losses are read from the device once in many steps, so that a step never waits for it. By then a
NaN would be in every weight, and nobody could tell where it began. So the update of that step and
of all later ones is left out on the rank where it happened, and the engine looks into it at the
next reading. On a CPU a look at the loss costs nothing. On a GPU the fused optimizers take a flag
that lies there, which one small kernel a step raises; other optimizers have no such thing.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


class Guard:
    """For a CPU."""

    is_closed = False
    """Whether updates must be left out from now on."""

    def watch(self, value: Tensor) -> None:
        """A loss, or a norm of gradients, without graph."""
        if not math.isfinite(value.item()):
            self.is_closed = True


class DeviceGuard(Guard):
    """For a GPU: `is_closed` stays False here, the optimizers' own kernels look at the flag."""

    def __init__(self, device: torch.device, optimizers: Iterable[Optimizer]) -> None:
        self._flag = torch.zeros((), device=device)
        self._one = torch.ones((), device=device)
        for optimizer in optimizers:
            if all(group.get("fused") for group in optimizer.param_groups):
                optimizer.found_inf = self._flag  # type: ignore[attr-defined]

    def watch(self, value: Tensor) -> None:
        """Raise the flag where `value` is not finite; it is never lowered."""
        torch._amp_foreach_non_finite_check_and_unscale_([value], self._flag, self._one)


class NoGuard(Guard):
    """For fp16 on a GPU, where a loss scaler leaves such updates out by itself."""

    def watch(self, value: Tensor) -> None:
        """Do nothing."""


def build_guard(device: torch.device, optimizers: Iterable[Optimizer], *, scaled: bool) -> Guard:
    """scaled: whether the optimizers have a loss scaler."""
    if device.type == "cpu":
        return Guard()
    return NoGuard() if scaled else DeviceGuard(device, optimizers)
