"""What a checkpoint holds beside the weights, put together and taken apart."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainyard_trainer import checkpoint
from trainyard_trainer.config import config_changes
from trainyard_trainer.goodput import Stopwatch
from trainyard_trainer.recipe import Position, Recipe
from trainyard_trainer.rng import capture_rng, restore_rng
from trainyard_trainer.sampler import mix
from trainyard_trainer.stage_run import StageRun


class RunState:
    """Where a run stands, beyond what its recipe sees."""

    def __init__(self, recipe: Recipe[Any], modules: Mapping[str, nn.Module]) -> None:
        self._recipe, self._modules = recipe, modules
        self._config = recipe.config.model_dump(mode="json")
        self.position: Position = recipe.position
        self.cursor = 0
        """Samples of the epoch that all ranks together have consumed."""
        self.samples_seen = 0
        self.first_world_size: int | None = None
        """Of the first attempt: a smaller gang's ranks hold no more at a time than then."""
        self.clock = Stopwatch()
        """Of training, over all attempts."""
        self.config_changes: list[str] = []
        """Of the configuration against that of the checkpoint, see `config.config_changes`."""
        self.evaluated: dict[str, float] = {}
        """Metrics of the last evaluation."""

    @property
    def is_at_stage_start(self) -> bool:
        """Whether optimizers and the like are yet to be made."""
        return self.position.epoch == 0 and self.cursor == 0

    def shared(self, run: StageRun) -> dict[str, Any]:
        """Rank 0's for all. `model` is what one evaluates and deploys."""
        raw = {name: module.state_dict() for name, module in self._modules.items()}
        state: dict[str, Any] = {"model": self._as_weights(raw)}
        if run.ema is not None:
            average = {name: module.state_dict() for name, module in run.ema.modules.items()}
            state = {"model": self._as_weights(average), "raw": self._raw(learnt=False)}
        position = self.position
        state["run"] = {
            "stage_index": position.stage_index,
            "epoch": position.epoch,
            "run_epoch": position.run_epoch,
            "step": position.step,
            "cursor": self.cursor,
            "samples_seen": self.samples_seen,
            "first_world_size": self.first_world_size,
            "seconds": self.clock.seconds,
            "evaluated": dict(self.evaluated),
        }
        state["config"] = self._config
        state["recipe"] = self._recipe.state_dict()
        state["stage"] = run.small_state_dict()
        return state

    def replicated(self, run: StageRun) -> dict[str, Any]:
        """Equal on every rank to the bit: optimizers, and weights beside an average of them."""
        state: dict[str, Any] = {"stage": {"optimizers": run.stepper.optimizer_states()}}
        if run.ema is not None:
            state["raw"] = self._raw(learnt=True)
        return state

    def own(self, run: StageRun) -> dict[str, Any]:
        """This rank's alone."""
        return {
            "rng": capture_rng(),
            "meter": run.stepper.meter.state_dict(),
            "compression": run.compression.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Weights, position and the recipe's own; a stage loads its part once it is built."""
        self.load_modules(state.get("raw", state["model"]))
        run = state["run"]
        position = self.position
        position.stage_index, position.epoch = run["stage_index"], run["epoch"]
        position.run_epoch, position.step = run["run_epoch"], run["step"]
        self.cursor, self.samples_seen = run["cursor"], run["samples_seen"]
        self.first_world_size = run["first_world_size"]
        self.clock.take_over(run["seconds"])
        self.config_changes = config_changes(state.get("config", self._config), self._config)
        self.evaluated = dict(run["evaluated"])
        self._recipe.load_state_dict(state["recipe"])

    def load_modules(self, weights: Mapping[str, Any]) -> None:
        """Weights and buffers."""
        for name, state in self._by_module(weights).items():
            self._modules[name].load_state_dict(state)

    def _raw(self, *, learnt: bool) -> dict[str, Any]:
        parts = {name: _part(one, learnt=learnt) for name, one in self._modules.items()}
        return self._as_weights(parts)

    def _as_weights(self, by_module: dict[str, Any]) -> dict[str, Any]:
        """What people load: the state dict itself of an only module, else one by module name."""
        return next(iter(by_module.values())) if len(by_module) == 1 else by_module

    def _by_module(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Undo `_as_weights`."""
        if len(self._modules) == 1:
            return {name: weights for name in self._modules}
        return {name: weights[name] for name in self._modules}

    def load_stage(self, run: StageRun, state: Mapping[str, Any]) -> None:
        """Optimizers and the like, in the middle of a stage."""
        run.load_state_dict(state["stage"])
        if run.ema is not None and "raw" in state:
            for name, average in self._by_module(state["model"]).items():
                run.ema.modules[name].load_state_dict(average)

    def load_own(self, rank_state: Mapping[str, Any] | None, run: StageRun, rank: int) -> None:
        """This rank's generators and sums; a rank that did not exist then gets new ones."""
        if rank_state is None:
            torch.manual_seed(mix(self._recipe.site.seed, self.position.step, rank))
            return
        run.stepper.meter.load_state_dict(rank_state["meter"])
        run.compression.load_state_dict(rank_state.get("compression", {}), self._recipe.site.device)
        restore_rng(rank_state["rng"])

    def manifest_position(self) -> checkpoint.Position:
        """For the manifest."""
        stage = self.position.stage
        return checkpoint.Position(
            step=self.position.step,
            epoch=self.position.run_epoch,
            stage=stage.name if stage else "",
            cursor=self.cursor,
            samples_seen=self.samples_seen,
        )


def _part(module: nn.Module, *, learnt: bool) -> dict[str, Any]:
    """The parameters of a module's state, or the rest: a rank has running statistics of its own."""
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    part = module.state_dict()
    for name in list(part):
        if (name in names) is not learnt:
            del part[name]
    return part
