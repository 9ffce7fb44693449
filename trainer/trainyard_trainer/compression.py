"""What gradients are sent as: DistributedDataParallel's communication hooks, and their state."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from trainyard_trainer.config import DistributedConfig

_PARTS = ("error_dict", "p_memory_dict", "q_memory_dict")


class Compression:
    """The hooks of a stage's modules; powersgd's remember errors, by bucket."""

    def __init__(self, config: DistributedConfig) -> None:
        self._config = config
        self._states: dict[str, powerSGD_hook.PowerSGDState] = {}

    def register(self, name: str, module: DistributedDataParallel) -> None:
        """Before the first backward pass, once for each module."""
        kind = self._config.compression
        if kind == "powersgd":
            self._states[name] = powerSGD_hook.PowerSGDState(
                process_group=None,
                matrix_approximation_rank=self._config.powersgd_rank,
                start_powerSGD_iter=self._config.powersgd_start_step,
            )
            module.register_comm_hook(self._states[name], powerSGD_hook.powerSGD_hook)
        elif kind != "none":
            hooks = {
                "fp16": default_hooks.fp16_compress_hook,
                "bf16": default_hooks.bf16_compress_hook,
            }
            module.register_comm_hook(dist.group.WORLD, hooks[kind])

    def reset(self) -> None:
        """Forget the passes that were thrown away."""
        for state in self._states.values():
            state.iter = 0
            for part in _PARTS:
                getattr(state, part).clear()

    def state_dict(self) -> dict[str, Any]:
        """This rank's own: the error is that of its own gradients."""
        return {
            name: {"iter": state.iter} | {part: dict(getattr(state, part)) for part in _PARTS}
            for name, state in self._states.items()
        }

    def load_state_dict(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Undo `state_dict`."""
        for name, state in self._states.items():
            if name in saved:
                state.iter = saved[name]["iter"]
                for part in _PARTS:
                    values = saved[name][part].items()
                    getattr(state, part).update({k: v.to(device) for k, v in values})
