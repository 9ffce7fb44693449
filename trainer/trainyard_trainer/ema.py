"""A moving average of the weights."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """Copies of modules whose parameters follow slowly and whose buffers are the newest."""

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self.modules = {name: copy.deepcopy(module) for name, module in modules.items()}
        for module in self.modules.values():
            module.requires_grad_(False)
        self._decay = decay
        self._averages = _tensors(self.modules, buffers=False)
        self._buffers = _tensors(self.modules, buffers=True)
        self._source, self._source_buffers = (
            _tensors(modules, buffers=False),
            _tensors(modules, buffers=True),
        )

    @torch.no_grad()
    def update(self) -> None:
        """After each step."""
        torch._foreach_lerp_(self._averages, self._source, 1 - self._decay)
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._source_buffers)


def _tensors(modules: Mapping[str, nn.Module], *, buffers: bool) -> list[Tensor]:
    return [
        tensor.detach()
        for module in modules.values()
        for tensor in (module.buffers() if buffers else module.parameters())
    ]
