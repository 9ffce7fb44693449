"""Everything that a stage needs, built on its first day and again after a restart."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainyard_trainer.compression import Compression
from trainyard_trainer.config import DistributedConfig
from trainyard_trainer.distributed import World
from trainyard_trainer.ema import Ema
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.evaluation import Evaluator
from trainyard_trainer.loader import Split, StepBatch, TrainLoader
from trainyard_trainer.metrics import Meter
from trainyard_trainer.optimizers import parameters_of
from trainyard_trainer.policy import Judge
from trainyard_trainer.recipe import Data, Metric, Modules, Recipe, Stage
from trainyard_trainer.rng import capture_rng, restore_rng
from trainyard_trainer.stepper import DTYPES, Stepper

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Of weights of convolutions, by their number of dimensions."""
_OPTIONS = inspect.signature(DistributedDataParallel.__init__).parameters
NO_BROADCAST: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers": False
}
"""The stepper sends buffers once a step, outside of the time that counts as a rank's own; the
option has its first name from torch 2.15 on."""


@dataclass(kw_only=True)
class StageRun:
    """A stage under way."""

    stage: Stage
    data: Data
    modules: Modules
    """The recipe's own, not wrapped."""
    loader: TrainLoader
    stepper: Stepper
    judge: Judge
    ema: Ema | None
    evaluator: Evaluator
    compression: Compression
    first_step: int
    """Step of the run with which the stage began."""

    @property
    def evaluated(self) -> Modules:
        """What is evaluated: the average where there is one.

        Never DDP's wrappers, whose forward pass talks to ranks that may have fewer batches.
        """
        return self.ema.modules if self.ema else self.modules

    def small_state_dict(self) -> dict[str, Any]:
        """What a resume in the middle of the stage needs, beside modules and optimizers."""
        return self.stepper.small_state_dict() | {
            "judge": self.judge.state_dict(),
            "first_step": self.first_step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `small_state_dict`, and the stepper's `optimizer_states`."""
        self.stepper.load_state_dict(state)
        self.judge.load_state_dict(state["judge"])
        self.first_step = state["first_step"]


class StageBuilder:
    """Builds stages of one recipe on one rank."""

    def __init__(self, recipe: Recipe[Any], modules: Mapping[str, nn.Module], world: World) -> None:
        self._recipe, self._modules, self._world = recipe, modules, world
        self._by_default = learning(modules)

    def build(self, stage: Stage, best: Metric, first_world_size: int, first_step: int) -> StageRun:
        """first_world_size: of the run's first attempt. first_step: with which the stage began."""
        recipe, training = self._recipe, self._recipe.config.training
        data = recipe.build_data(stage)
        loader = self._loader(stage, data, first_world_size)
        recipe.position.steps_per_epoch = loader.steps_per_epoch
        set_trainable(self._modules, stage, self._by_default)
        for module in self._modules.values():
            module.train()
        recipe.begin_stage(stage, data)
        optimizers = recipe.build_optimizers(stage, self._modules)
        _check_owned(self._modules, [p for o in optimizers.values() for p in parameters_of(o)])
        _check_updates(recipe, tuple(optimizers))
        is_wrapped = len(optimizers) == 1 and not recipe.reduces_gradients
        if not is_wrapped:
            refuse_ddp_options(training.distributed)
        schedules = recipe.build_schedules(stage, optimizers, loader.steps_per_epoch)
        compression = Compression(training.distributed)
        stepper = Stepper(
            recipe,
            self._wrap(compression) if is_wrapped else self._share(),
            optimizers,
            schedules,
            Meter(),
            self._world.device,
        )
        size = training.evaluation_batch_size or loader.split.micro_batch_size
        return StageRun(
            stage=stage,
            data=data,
            modules=self._modules,
            loader=loader,
            stepper=stepper,
            judge=Judge(best, training.early_stopping),
            ema=Ema(self._modules, training.ema_decay) if training.ema_decay else None,
            evaluator=Evaluator(recipe, self._world, size, DTYPES[training.precision]),
            compression=compression,
            first_step=first_step,
        )

    def _loader(self, stage: Stage, data: Data, first_world_size: int) -> TrainLoader:
        if len(data.train) == 0:
            raise ConfigurationError(
                "spec.dataset: the training split has no samples; check its URI and the layout."
            )
        training, world = self._recipe.config.training, self._world
        batch_size = stage.batch_size or training.batch_size
        most = stage.micro_batch_size or training.micro_batch_size
        most = most or -(-batch_size // first_world_size)
        split = Split(
            rank=world.rank,
            world_size=world.world_size,
            batch_size=batch_size,
            micro_batch_size=min(most, -(-batch_size // world.world_size)),
        )
        return TrainLoader(data, split, training, world.device)

    def _share(self) -> Modules:
        """Rank 0's weights and buffers for all."""
        if self._world.side is not None:
            tensors = [t.detach() for m in self._modules.values() for t in m.state_dict().values()]
            dist._broadcast_coalesced(dist.group.WORLD, tensors, 2**25, 0)  # type: ignore[arg-type]
        return self._modules

    def _wrap(self, compression: Compression) -> Modules:
        self._share()
        if self._world.side is None:
            return self._modules
        options = self._recipe.config.training.distributed
        wrapped: dict[str, nn.Module] = {}
        for name, module in self._modules.items():
            wrapped[name] = module
            if any(parameter.requires_grad for parameter in module.parameters()):
                wrapped[name] = ddp = DistributedDataParallel(
                    module,
                    bucket_cap_mb=options.bucket_mebibytes,
                    find_unused_parameters=options.find_unused_parameters,
                    gradient_as_bucket_view=options.gradient_as_bucket_view,
                    static_graph=options.static_graph,
                    **NO_BROADCAST,
                )
                compression.register(name, ddp)
        return wrapped

    def share_buffers(self, modules: Modules) -> None:
        """Rank 0's running statistics for all, as a checkpoint has them."""
        buffers = [buffer for module in modules.values() for buffer in module.buffers()]
        if self._world.side is not None and buffers:
            dist._broadcast_coalesced(dist.group.WORLD, buffers, 2**25, 0)  # type: ignore[arg-type]

    def settle(self, run: StageRun, batch: StepBatch) -> None:
        """Two throw-away backward passes: then DDP's buckets, and so its sums, stay as they are.

        It rebuilds them after its first pass. Without this, a run that goes on from a checkpoint
        would add gradients in another order than one that was never interrupted.
        """
        if not any(isinstance(m, DistributedDataParallel) for m in run.stepper.modules.values()):
            return
        buffers = [b for module in self._modules.values() for b in module.buffers()]
        before = [buffer.clone() for buffer in buffers]
        rng, own = capture_rng(), copy.deepcopy(self._recipe.state_dict())
        for _ in range(2):
            run.stepper.throw_away(batch)
        run.compression.reset()
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        restore_rng(rng)
        self._recipe.load_state_dict(own)


def prepare_modules(recipe: Recipe[Any], device: torch.device) -> dict[str, nn.Module]:
    """The recipe's networks on the device, laid out and compiled as configured."""
    training = recipe.config.training
    modules = {name: module.to(device) for name, module in recipe.build_modules().items()}
    for module in modules.values():
        if training.channels_last:
            for parameter in module.parameters():
                if parameter.ndim in LAYOUTS:
                    layout = LAYOUTS[parameter.ndim]
                    parameter.data = parameter.data.contiguous(memory_format=layout)
        if training.compile:
            module.compile()
    return modules


def refuse_ddp_options(options: DistributedConfig) -> None:
    """Several optimizers' gradients are averaged without DistributedDataParallel."""
    for name in ("static_graph", "find_unused_parameters"):
        if getattr(options, name):
            raise ConfigurationError(
                f"spec.config.training.distributed.{name}: is for recipes with one optimizer; "
                "leave it out."
            )
    if options.compression != "none":
        raise ConfigurationError(
            f"spec.config.training.distributed.compression: '{options.compression}' is for "
            "recipes with one optimizer; write 'none'."
        )


def set_trainable(
    modules: Mapping[str, nn.Module], stage: Stage, by_default: Mapping[str, bool]
) -> None:
    """Turn gradients on for what the stage names, or as they were when the networks were built.

    by_default: by dotted name, see `learning`. Raises ConfigurationError for an unknown name.
    """
    missed = set(stage.trainable or ())
    for name, module in modules.items():
        for path, parameter in module.named_parameters(prefix=name):
            if stage.trainable is None:
                parameter.requires_grad_(by_default[path])
                continue
            hits = {p for p in stage.trainable if path == p or path.startswith(f"{p}.")}
            missed -= hits
            parameter.requires_grad_(bool(hits))
    if missed:
        raise ConfigurationError(
            f"stage '{stage.name}': no parameter is called '{sorted(missed)[0]}'; name modules or "
            f"their parts, such as '{next(iter(modules))}'."
        )


def learning(modules: Mapping[str, nn.Module]) -> dict[str, bool]:
    """Which parameters have gradients now, by dotted name."""
    return {
        path: parameter.requires_grad
        for name, module in modules.items()
        for path, parameter in module.named_parameters(prefix=name)
    }


def _check_owned(modules: Mapping[str, nn.Module], owned: list[Tensor]) -> None:
    """Without this, a frozen or foreign parameter would silently stay as it is."""
    known = {id(p) for module in modules.values() for p in module.parameters()}
    if any(id(parameter) not in known for parameter in owned):
        raise ConfigurationError(
            "Recipe: build_optimizers() uses parameters that are in none of build_modules()'s "
            "modules; return every network from build_modules()."
        )


def _check_updates(recipe: Recipe[Any], names: tuple[str, ...]) -> None:
    for name in recipe.updates(names):
        if name not in names:
            known = ", ".join(f"'{one}'" for one in names)
            raise ConfigurationError(
                f"Recipe: updates() names '{name}', which build_optimizers() does not build; name "
                f"some of {known}."
            )
