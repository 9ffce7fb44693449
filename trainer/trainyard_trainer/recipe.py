"""What a recipe is: networks, data, losses, metrics and a stage plan; the engine does the rest.

The engine calls, in this order: `build_modules`, `stages`; then for every stage `build_data`,
`begin_stage`, `build_optimizers`, and `losses` for every (micro-)batch; at evaluations
`evaluate_batch`, `compute_metrics`, `report` and `pictures`. It owns devices, ranks, precision,
accumulation, clipping, schedules, EMA, early stopping, checkpoints and all files.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.config import RecipeConfig, Section
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.pictures import Picture
from trainyard_trainer.predictions import Prediction
from trainyard_trainer.schedule import Schedule, build_schedule

ConfigT = TypeVar("ConfigT", bound=RecipeConfig)

Batch = Any
"""Tensors, or dicts, lists, tuples and dataclasses of them: what can be moved to a device."""
Modules = Mapping[str, nn.Module]
"""The recipe's modules by name, as the engine wrapped them: call these, not the originals."""
Gathered = Mapping[str, Any]
"""Outputs of a split: tensors (N, ...) or lists in its order, and sums of `Counts`; on the CPU."""


class Loss(NamedTuple):
    """One optimizer's loss: a mean over the batch, with its graph."""

    optimizer: str
    value: Tensor
    metrics: Mapping[str, Tensor] = {}
    """Scalars to average and log, such as the loss's components. `loss` is logged by itself."""


class Metric(NamedTuple):
    """What a run is judged by, such as ("val_accuracy", "max")."""

    name: str
    mode: Literal["min", "max"]

    def is_better(self, value: float, best: float | None, min_delta: float = 0) -> bool:
        """Whether `value` improves on `best` by more than `min_delta`. NaN never does."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        return value > best + min_delta if self.mode == "max" else value < best - min_delta


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run with its own data, optimizers, schedule and best checkpoint."""

    name: str
    epochs: int
    trainable: tuple[str, ...] | None = None
    """Dotted prefixes of the parameters that learn, such as "model" or "model.head"; the others are
    frozen. None means all."""
    batch_size: int | None = None
    """Global batch of this stage. None means training.batch_size."""
    micro_batch_size: int | None = None
    """Most samples that one rank holds at a time. None means training.micro_batch_size."""
    evaluate: bool = True
    """Whether epochs end with an evaluation on the validation split."""
    best: Metric | None = None
    """What this stage is judged by. None means the recipe's own."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's own, such as a patch size: `build_data` and `losses` read it."""


class Samples(Protocol):
    """A map-style data set.

    It may have `batch(indices: Tensor, epoch: int) -> Batch` too, which then replaces single
    samples, augmentation and collation; epoch counts from 0 over the run, for augmentation, and is
    0 in evaluation.
    """

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int, /) -> Any:
        """One sample; the same each time."""


class Sampler(Protocol):
    """The order of an epoch, a pure function of (seed, epoch): see sampler.py."""

    def __len__(self) -> int:
        """The cursor at which an epoch ends."""

    def steps(self, batch_size: int) -> int:
        """How often `take` is called in an epoch."""

    def take(self, epoch: int, cursor: int, batch_size: int) -> tuple[Tensor, int]:
        """Indices of the next global batch, and the cursor after it."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a stage trains and is judged on."""

    train: Samples
    validation: Samples | None = None
    test: Samples | None = None
    collate: Callable[[list[Any]], Batch] | None = None
    """Samples to batch. None means torch's default."""
    augment: Callable[[Any, np.random.Generator], Any] | None = None
    """Changes a training sample; the generator is seeded by (seed, epoch, index), so that a resumed
    run sees the same. For transforms that draw from torch, see `sampler.torch_seeded`."""
    sampler: Sampler | None = None
    """None means that each sample comes once an epoch, shuffled."""


class TensorSamples:
    """Tensors in memory as a data set: sample i is the tuple of all tensors' row i."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        """The first tensor's rows."""
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """One row of each."""
        return tuple(tensor[index] for tensor in self.tensors)

    def batch(self, indices: Tensor, epoch: int) -> tuple[Tensor, ...]:
        """Rows of each, without a loop over samples; the same in each epoch."""
        return tuple(tensor[indices] for tensor in self.tensors)


@dataclass
class Position:
    """Where the run stands; the engine moves it, a recipe only reads it."""

    stage: Stage | None = None
    stage_index: int = 0
    epoch: int = 0
    """Of the stage, from 0."""
    run_epoch: int = 0
    """Of the run, from 0; seeds the order and the augmentation."""
    step: int = 0
    """Optimizer steps of the run so far."""
    steps_per_epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a recipe may know of where it runs."""

    data_path: Path | None
    """data.path, or else where spec.dataset was put."""
    scratch: Path
    device: torch.device
    rank: int = 0
    world_size: int = 1
    seed: int = 42
    labels: Mapping[str, Sequence[str]] | None = None
    """What `Recipe.labels` said in the run whose weights are loaded without its data set. None: a
    data set is there."""


class Sink(Protocol):
    """Where reports and pictures go; only rank 0 writes."""

    def text(self, name: str, text: str) -> None:
        """A file of the run, such as `reports/classification_report_test.txt`, kept in storage."""

    def file(self, name: str, data: bytes) -> None:
        """A binary file of the run, kept in storage."""

    def image(self, tag: str, image: Any) -> None:
        """A picture in TensorBoard: uint8 or float in 0..1, (H, W) or (H, W, 3)."""

    def picture(self, name: str, picture: Picture) -> None:
        """In TensorBoard, in storage as `pictures/<name>.png`, and in the run's report."""

    def scalars(self, values: Mapping[str, float]) -> None:
        """Curves in TensorBoard."""


class Recipe(ABC, Generic[ConfigT]):
    """One way to train. Subclasses are registered with `@recipe("name")`."""

    config_class: ClassVar[type[RecipeConfig]]
    best: Metric = Metric("val_loss", "min")
    """The main metric; keepBest, early stopping and plateau use it where they name none."""
    final_splits: Sequence[str] = ("test",)
    """Splits on which the best model is evaluated at the end: train, validation, test."""

    initial_weights: ClassVar[Sequence[str]] = ()
    """Dotted keys of the configuration that name weights to begin with: left out where trained ones
    are loaded."""
    prediction_options: ClassVar[type[Section]] = Section
    """What `predict` can be told."""

    reduces_gradients: bool = False
    """Whether it adds up gradients over the ranks by itself, as clipping by sample demands: the
    engine then wraps no module, and does not weigh a rank's mean by its number of samples."""

    def __init__(self, config: ConfigT, site: Site) -> None:
        """Reads no data yet; `position` is kept up to date by the engine."""
        self.config = config
        self.site = site
        self.position = Position()

    @abstractmethod
    def build_modules(self) -> dict[str, nn.Module]:
        """The networks, on the CPU; the torch seed is the same on every rank."""

    @abstractmethod
    def build_data(self, stage: Stage) -> Data:
        """The splits; the same on every rank."""

    @abstractmethod
    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """Yield one Loss for each of `updates`: by default once for each optimizer, in their order.

        Between two yields the engine goes backward, clips and steps, so that a GAN's generator loss
        is computed with the stepped discriminator. Only the optimizer about to be stepped has its
        parameters' gradients on.
        """

    @abstractmethod
    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        """Outputs under names of your choice: tensors (B, ...), lists of B objects, `Counts`.

        See metrics.py for what each costs.
        """

    @abstractmethod
    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """Metrics of a whole split, without prefix: the engine adds `val_`, `test_`, `train_`."""

    def stages(self) -> list[Stage]:
        """The plan; one stage of training.epochs unless overridden."""
        return [Stage(name="train", epochs=self.config.training.epochs)]

    def begin_stage(self, stage: Stage, data: Data) -> None:
        """Hook: look at the data, such as for class weights."""

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        """Optimizers by name over the stage's trainable parameters; one, `main`, by default."""
        training = self.config.training
        trainable = [
            parameter
            for module in modules.values()
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        return {"main": build_optimizer(trainable, training.optimizer, training.learning_rate)}

    def updates(self, optimizers: Sequence[str]) -> Sequence[str]:
        """The optimizers to step, in this order, in the step after `position.step`.

        `("critic",) * 5 + ("generator",)` steps the critic five times on each batch; a name left
        out, such as in four steps of five, leaves its networks as they are.
        """
        return optimizers

    def build_schedules(
        self, stage: Stage, optimizers: Mapping[str, Optimizer], steps_per_epoch: int
    ) -> dict[str, Schedule]:
        """The schedule of each optimizer; training.schedule for all by default."""
        training = self.config.training
        mode = self.best.mode if training.schedule.metric is None else training.schedule.mode
        return {
            name: build_schedule(
                training.schedule, training.learning_rate, stage.epochs, steps_per_epoch, mode
            )
            for name in optimizers
        }

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """Hook after every evaluation and for each final split, on rank 0: figures by name.

        They are drawn later, beside training: leave what they hold as it is.
        """
        return {}

    def notes(self) -> Mapping[str, str]:
        """Hook at the end, on rank 0: what the report tells beside the metrics, by what it is
        about, such as how many unreadable files were skipped."""
        return {}

    def end_epoch(self, values: Mapping[str, float], sink: Sink) -> None:
        """Hook after every epoch, on rank 0. values: what was logged of it, such as `train_loss`,
        and `val_loss` where it was evaluated; `position.epoch` is the epoch that ends."""

    def report(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Hook after every evaluation, on rank 0: pictures such as a confusion matrix."""

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Hook at the end, on rank 0: reports on the final splits as the best model sees them."""

    def labels(self) -> Mapping[str, Sequence[str]]:
        """What outputs are called where only the data set knows it, such as the classes' names:
        kept with the run, and given back as `site.labels`."""
        return {}

    def predict(self, modules: Modules, file: Path, options: Any) -> Prediction:
        """What the networks say of a new file; they are in evaluation mode, without gradients.

        options: a `prediction_options`. Raises ConfigurationError naming the file.
        """
        raise ConfigurationError(
            f"spec.recipe: {type(self).__name__} cannot predict; give it a method 'predict'."
        )

    def example_inputs(self) -> Mapping[str, Tensor]:
        """By module, random input (B, ...) of the networks that are worth exporting."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Anything of the recipe's own that a resumed run needs, such as a privacy accountant."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
