"""One optimizer step: the hot path, from batches on the device to changed weights."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.guard import build_guard
from trainyard_trainer.loader import StepBatch
from trainyard_trainer.metrics import Meter
from trainyard_trainer.optimizers import load_optimizer, parameters_of
from trainyard_trainer.recipe import Loss, Recipe
from trainyard_trainer.schedule import Schedule

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Steps a stage's optimizers, each on its own loss, in the order of `Recipe.updates`.

    With one optimizer the modules are wrapped in DistributedDataParallel, which reduces gradients
    while the backward pass still runs. With several, a forward pass may serve two backward passes,
    which DDP cannot follow: gradients are then reduced once they are complete.
    """

    def __init__(
        self,
        recipe: Recipe[Any],
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        schedules: Mapping[str, Schedule],
        meter: Meter,
        device: torch.device,
    ) -> None:
        """modules: as wrapped. Learning rates are those of the optimizers times the schedules'."""
        training = recipe.config.training
        self._recipe, self.modules, self.meter = recipe, modules, meter
        self.optimizers, self.schedules = optimizers, schedules
        self._names = tuple(optimizers)
        dtype = DTYPES[training.precision]
        self.autocast: AbstractContextManager[Any] = (
            nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
        )
        self.scalers = {
            name: torch.amp.GradScaler(device.type)
            for name in (optimizers if training.precision == "fp16" else ())
        }
        self.guard = build_guard(device, optimizers.values(), scaled=bool(self.scalers))
        self.forward_seconds = 0.0
        """Of the last step: computing losses, on this rank's own clock."""
        self._clip, self._norm_type = training.clip_grad_norm, training.clip_norm_type
        self._measures = training.clip_grad_norm is not None or training.log_grad_norm
        prefixes = {name: "" if len(optimizers) == 1 else f"{name}_" for name in optimizers}
        self._loss_names = {name: f"{prefix}loss" for name, prefix in prefixes.items()}
        self._parameters = {name: parameters_of(one) for name, one in optimizers.items()}
        self._ddp = [m for m in modules.values() if isinstance(m, DistributedDataParallel)]
        self._weighs = not recipe.reduces_gradients
        self._reduces = self._weighs and len(optimizers) > 1 and dist.is_initialized()
        sends = dist.is_initialized() and training.distributed.broadcast_buffers
        self._buffers = [b for m in modules.values() for b in m.buffers()] if sends else []
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        self._factors = dict.fromkeys(optimizers, 1.0)

    def step(self, batch: StepBatch, step: int, stage_step: int) -> None:
        """Consume one global batch. step: of the run, for messages. stage_step: for schedules."""
        if self._buffers:
            dist._broadcast_coalesced(_group(), self._buffers, 2**20, 0)
        began = time.perf_counter()
        streams = [self._recipe.losses(self.modules, one) for one in batch.batches]
        last = len(streams) - 1
        self.forward_seconds = time.perf_counter() - began
        names = self._recipe.updates(self._names)
        for name in names:
            clear_gradients(self._parameters[name])
            if len(names) > 1:
                _freeze(self._parameters[name], frozen=False)
            for index, stream in enumerate(streams):
                for module in self._ddp if last else ():
                    module.require_backward_grad_sync = index == last
                began = time.perf_counter()
                with self.autocast:
                    loss = next(stream, None)
                self.forward_seconds += time.perf_counter() - began
                self._backward(name, loss, batch, index, step)
            self._update(name, self.optimizers[name], stage_step, step)
            if len(names) > 1:
                # A later loss that passes through this optimizer's modules leaves them alone.
                _freeze(self._parameters[name], frozen=True)
        if len(names) > 1:
            for name in names:
                _freeze(self._parameters[name], frozen=False)

    def _backward(
        self, name: str, loss: Loss | None, batch: StepBatch, index: int, step: int
    ) -> None:
        if loss is None or loss.optimizer != name:
            raise RecipeOrder(name, loss.optimizer if loss else None)
        count, weight = batch.counts[index], batch.weights[index]
        if not self._weighs:
            weight = 1.0 if weight else 0.0
        value = loss.value if weight == 1.0 else loss.value * weight
        scaler = self.scalers.get(name)
        (value if scaler is None else scaler.scale(value)).backward()
        plain = loss.value.detach()
        self.guard.watch(plain)
        self.meter.add_loss(self._loss_names[name], plain, count, step)
        for metric, number in loss.metrics.items():
            self.meter.add(metric, number.detach(), count, step)

    def _update(self, name: str, optimizer: Optimizer, stage_step: int, step: int) -> None:
        parameters = self._parameters[name]
        if self._reduces:
            reduce_gradients(parameters)
        if self.guard.is_closed:
            return
        self._set_rate(name, optimizer, self.schedules[name].factor(stage_step))
        scaler = self.scalers.get(name)
        if scaler is not None:
            scaler.unscale_(optimizer)
        if self._measures:
            self._clip_gradients(name, parameters, step)
        if scaler is None:
            if not self.guard.is_closed:
                optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()

    def _clip_gradients(self, name: str, parameters: Sequence[Tensor], step: int) -> None:
        most = self._clip or math.inf
        norm = nn.utils.clip_grad_norm_(parameters, most, self._norm_type).detach()
        if name in self.scalers:
            # An infinite one is the scaler's business: it leaves that update out.
            self.meter.add(f"{name}_grad_norm", norm, 1, step)
        else:
            self.guard.watch(norm)
            self.meter.add_loss(f"{name}_grad_norm", norm, 1, step)

    def _set_rate(self, name: str, optimizer: Optimizer, factor: float) -> None:
        if factor != self._factors[name]:
            self._factors[name] = factor
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor

    def throw_away(self, batch: StepBatch) -> None:
        """A backward pass that changes no weights, so that DDP settles on its buckets."""
        for one in batch.batches[:1]:
            with self.autocast:
                loss = next(self._recipe.losses(self.modules, one))
            loss.value.backward()
        for parameters in self._parameters.values():
            clear_gradients(parameters)

    def rates(self) -> dict[str, float]:
        """Each optimizer's learning rate of its first group."""
        names = {name: "learning_rate" for name in self.optimizers}
        if len(names) > 1:
            names = {name: f"{name}_learning_rate" for name in names}
        return {names[name]: one.param_groups[0]["lr"] for name, one in self.optimizers.items()}

    def optimizer_states(self) -> dict[str, Any]:
        """Equal on all ranks, and large."""
        return {name: one.state_dict() for name, one in self.optimizers.items()}

    def small_state_dict(self) -> dict[str, Any]:
        """Schedules and scalers."""
        return {
            "schedules": {name: one.state_dict() for name, one in self.schedules.items()},
            "scalers": {name: one.state_dict() for name, one in self.scalers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo both; the base learning rates stay those of the configuration."""
        for name, optimizer in self.optimizers.items():
            load_optimizer(optimizer, state["optimizers"][name])
            self.schedules[name].load_state_dict(state["schedules"][name])
            self._factors[name] = float("nan")  # Whatever comes next is set.
        for name, scaler in self.scalers.items():
            if name in state["scalers"]:
                scaler.load_state_dict(state["scalers"][name])


class RecipeOrder(TrainyardError):
    """`losses` and `build_optimizers` disagree."""

    def __init__(self, expected: str, found: str | None) -> None:
        self.expected, self.found = expected, found
        what = f"the loss of '{found}'" if found else "no more losses"
        super().__init__(
            f"Recipe: losses() yielded {what} where that of '{expected}' was due; yield one Loss "
            "for each optimizer, in the order of updates()."
        )


def clear_gradients(parameters: Sequence[Tensor]) -> None:
    """As Optimizer.zero_grad, which spends longer on telling a profiler than on a small step."""
    for parameter in parameters:
        parameter.grad = None


def reduce_gradients(parameters: Sequence[Tensor], bucket_bytes: int = 25 * 2**20) -> None:
    """Average gradients over the ranks; one that is absent here counts as 0."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    size = dist.get_world_size()
    for bucket in torch._utils._take_tensors(gradients, bucket_bytes):
        flat = torch._utils._flatten_dense_tensors(bucket)
        dist.all_reduce(flat)
        flat /= size
        parts = torch._utils._unflatten_dense_tensors(flat, bucket)
        torch._foreach_copy_(list(bucket), list(parts))


def _freeze(parameters: Sequence[Tensor], *, frozen: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(not frozen)


def _group() -> dist.ProcessGroup:
    group = dist.group.WORLD
    if group is None:
        raise RuntimeError("no process group")
    return group
