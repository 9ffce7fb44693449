"""What can be configured; a docstring under a field is its documentation everywhere.

No torch here: the client and the documentation read these models too. The guide's own spellings are
brought to these in `guide.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainyard_trainer.bad_data import OnBad
from trainyard_trainer.config import (
    DataConfig,
    RecipeConfig,
    Section,
    WandbConfig,
)
from trainyard_trainer.recipes.lung_nodule.augmentation_config import AugmentationConfig
from trainyard_trainer.recipes.lung_nodule.guide import ALIASES
from trainyard_trainer.recipes.lung_nodule.training_config import NoduleTrainingConfig
from trainyard_trainer.recipes.lung_nodule.values import Millimetres, Size, Weight

MetricName = Literal["detection_dice", "froc_score", "center_accuracy", "size_accuracy", "loss"]
LOSSES = ("loss", "detection", "regression", "triage")
METRICS: tuple[MetricName, ...] = (
    "detection_dice",
    "froc_score",
    "center_accuracy",
    "size_accuracy",
)


class NoduleDataConfig(DataConfig):
    """Which scans, and what is cut out of them.

    LUNA16's layout is read (`subset0/` to `subset9/`, annotations.csv) where train_dir is unset.
    """

    train_dir: Path | None = None
    """Folder of training volumes, below `path` or spec.dataset where that is set; unset: LUNA16's
    subsets."""
    val_dir: Path | None = None
    """Folder of validation volumes."""
    test_dir: Path | None = None
    """Folder of test volumes; unset: no test."""
    annotations: Path = Path("annotations.csv")
    """CSV of nodules, LUNA16's columns or the guide's."""
    excluded: Path | None = Path("annotations_excluded.csv")
    """CSV of irrelevant findings, used where it exists; null: none."""
    train_subsets: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    """LUNA16's subsets to train on."""
    val_subsets: tuple[int, ...] = (8,)
    """LUNA16's subsets to validate on."""
    test_subsets: tuple[int, ...] = (9,)
    """LUNA16's subsets to test on."""
    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] | None = None
    """Bring volumes to this spacing (z, y, x) when they are read; null: as they are stored."""
    windows: tuple[tuple[float, float], ...] = Field(default=((-1000.0, 400.0),), min_length=1)
    """HU windows, lowest and highest, each scaled to 0..1 as a channel of the input."""
    patch_size: Size = (128, 128, 128)
    """Voxels of a training patch and of the sliding window, z, y, x."""
    stride: Size = (64, 64, 64)
    """Steps of the sliding window, at most patch_size."""
    random_patches_per_nodule: Weight = 1.0
    """Training patches from anywhere in a scan, for each of its nodules; 0: none."""
    cache_mebibytes: int = Field(default=1024, ge=0)
    """Volumes kept in memory by each process that reads them; larger ones are read by regions."""
    on_bad: OnBad = "stop"
    """stop: end at the first volume or annotation that cannot be used; skip: leave it out, count
    it, and say so in the report."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(step > side for step, side in zip(self.stride, self.patch_size, strict=True)):
            raise ValueError(
                f"stride {list(self.stride)} is larger than patch_size {list(self.patch_size)} and "
                "would leave gaps; write at most patch_size"
            )
        return self


class ModelConfig(Section):
    """Which network."""

    type: Literal["unet", "custom"] = "unet"
    """unet: a 3-D U-Net; custom: the class named by class_path."""
    class_path: str | None = None
    """For custom: package.module.Class, called with in_channels and out_channels."""
    in_channels: int = Field(default=1, ge=1)
    """Channels of the input: one for each of data.windows."""
    out_channels: int = Field(default=1, ge=1, le=1)
    """Channels of the heatmap."""
    base_filters: int = Field(default=32, ge=2)
    """Channels of the first level, such as 32, 64 or 128; they double at each level."""
    depth: int = Field(default=4, ge=1, le=6)
    """Downsampling levels."""
    use_batch_norm: bool = True
    """Batch norm before each activation; false: none, and convolutions have a bias."""
    use_dropout: bool = False
    """Whether dropout_rate counts."""
    dropout_rate: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropping a channel after each block."""
    activation: Literal["relu", "leaky_relu", "elu"] = "relu"
    """Activation."""
    gradient_checkpointing: bool = False
    """Keep only the blocks' outputs for the backward pass and compute the rest once more."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.type == "custom" and not self.class_path:
            raise ValueError("type 'custom' needs class: the import path of a class")
        return self


class ValidationConfig(Section):
    """What is measured on validation and test scans."""

    metrics: tuple[MetricName, ...] = METRICS
    """What is reported beside the loss; size_accuracy needs the multi_task loss."""
    save_best_metric: MetricName = "froc_score"
    """What the best checkpoint is chosen by."""
    blob_baseline: bool = False
    """Also judge a blob detector without learning on the same scans: baseline_froc_score. It takes
    about a second for a million voxels, once a scan and process."""


class CheckpointingConfig(Section):
    """What overrules spec.checkpoint."""

    save_interval: int | None = Field(default=None, ge=1)
    """Epochs between two checkpoints; null: as often as 2 % of the time allows."""
    keep_last_n: int | None = Field(default=None, ge=1)
    """How many of the latest are kept; null: 3."""


class LoggingConfig(Section):
    """Where curves go beside the run's storage."""

    tensorboard: bool = True
    """false: no TensorBoard events, whatever spec.tensorBoard says."""
    wandb: WandbConfig = WandbConfig()
    """Weights & Biases."""


class TtaConfig(Section):
    """Test-time augmentation: the mean over mirrored and turned copies of a scan."""

    enabled: bool = False
    """Whether to."""
    num_augmentations: int = Field(default=8, ge=1, le=32)
    """Copies, the plain one included; fewer where the types give no more."""
    augmentation_types: tuple[Literal["flip_x", "flip_y", "flip_z", "rotate_90"], ...] = (
        "flip_x",
        "flip_y",
        "flip_z",
        "rotate_90",
    )
    """Which changes are combined; rotate_90 turns about z."""


class InferenceConfig(Section):
    """From a network's output over a whole scan to candidates."""

    tta: TtaConfig = TtaConfig()
    """Test-time augmentation."""
    blend: Literal["gaussian", "constant"] = "gaussian"
    """How overlapping windows are averaged: less at their borders, or all the same."""
    windows_at_once: int = Field(default=1, ge=1)
    """Windows that go through the network together: with small ones, more are faster."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Least probability of a candidate."""
    operating_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Least probability where one decision is asked for: detection_dice and predictions."""
    most_candidates: int = Field(default=100, ge=1)
    """Candidates of a scan, the likeliest first."""
    least_distance_mm: Millimetres = 6.0
    """Of two peaks nearer than this the lower one is no candidate."""
    bootstraps: int = Field(default=1000, ge=0)
    """Draws of scans for the 95 % interval of the FROC score of final splits; 0: no interval."""


class Config(RecipeConfig):
    """Lung nodules in CT: heatmap, size and malignancy by a 3-D U-Net, judged by FROC."""

    aliases: ClassVar = ALIASES

    training: NoduleTrainingConfig = NoduleTrainingConfig()
    """How to train."""
    data: NoduleDataConfig = NoduleDataConfig()
    """What to train on."""
    model: ModelConfig = ModelConfig()
    """Which network."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """Random changes to training patches."""
    validation: ValidationConfig = ValidationConfig()
    """What is measured."""
    inference: InferenceConfig = InferenceConfig()
    """How a whole scan is read."""
    checkpointing: CheckpointingConfig = CheckpointingConfig()
    """When to save, in place of spec.checkpoint."""
    logging: LoggingConfig = LoggingConfig()
    """Where curves go."""

    def writes_tensorboard(self) -> bool:
        """By logging.tensorboard."""
        return self.logging.tensorboard

    def checkpoint_policy(self) -> Mapping[str, Any]:
        """As spec.checkpoint has it."""
        chosen = self.checkpointing
        wanted = {"everyEpochs": chosen.save_interval, "keepLast": chosen.keep_last_n}
        return {key: value for key, value in wanted.items() if value is not None}

    def metric_names(self) -> Sequence[str]:
        """The losses, and what `validation` asks for; an interval of the test alone."""
        chosen = {*self.validation.metrics, self.validation.save_best_metric}
        interval = ("froc_score_low", "froc_score_high") if "froc_score" in chosen else ()
        return (*LOSSES, *sorted(chosen), *interval, "baseline_froc_score")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model.in_channels != len(self.data.windows):
            raise ValueError(
                f"model.in_channels is {self.model.in_channels}, but data.windows has "
                f"{len(self.data.windows)}; write one HU window for each channel"
            )
        self._check_sides()
        if not self.training.loss.has_heads and self.validation.save_best_metric == "size_accuracy":
            raise ValueError(
                "validation.save_best_metric: size_accuracy needs training.loss.type: multi_task"
            )
        return self

    def _check_sides(self) -> None:
        progressive = self.training.progressive
        sizes = [self.data.patch_size]
        if progressive is not None and progressive.enabled:
            sizes += [stage.patch_size for stage in progressive.stages]
        step = 1 << self.model.depth
        for size in sizes:
            if self.model.type == "unet" and any(side % step for side in size):
                raise ValueError(
                    f"patch_size {list(size)} is not divisible by {step}, which a U-Net of depth "
                    f"{self.model.depth} halves it by; write multiples of {step}"
                )
