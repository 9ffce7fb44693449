"""What can be configured; a docstring under a field is its documentation everywhere.

No torch here: the client and the documentation read these models too. The guide's own spellings are
in spellings.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainyard_trainer.bad_data import OnBad
from trainyard_trainer.config import (
    DataConfig,
    EarlyStoppingConfig,
    Section,
    WandbConfig,
)
from trainyard_trainer.folds import refuse_absent_fold
from trainyard_trainer.privacy_config import (
    TRAINER_ALIASES,
    TRAINER_GROUPS,
    PrivateConfig,
    PrivateTrainingConfig,
)
from trainyard_trainer.recipes.skin_lesion.spellings import ALIASES, GROUPS

Share = Annotated[float, Field(ge=0, le=1)]
Limit = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] | None


class ArchitectureConfig(Section):
    """The layers of baseline_cnn."""

    conv_blocks: int = Field(default=4, ge=1, le=6)
    """Blocks of a 3x3 convolution, batch norm, ReLU and 2x2 max pooling."""
    channels: tuple[int, ...] = (32, 64, 128, 256)
    """Channels after each block."""
    classifier_hidden: int = Field(default=128, ge=1)
    """Features between the two linear layers."""

    @model_validator(mode="after")
    def _refuse_other_counts(self) -> Self:
        if len(self.channels) != self.conv_blocks:
            raise ValueError(
                f"channels has {len(self.channels)} numbers for {self.conv_blocks} conv_blocks; "
                "write one for each block"
            )
        return self


class ModelConfig(Section):
    """Which network; `model=resnet` is short for `model.name=resnet`."""

    name: Literal["baseline_cnn", "resnet", "efficientnet"] = "baseline_cnn"
    """The family. resnet and efficientnet are torchvision's."""
    variant: Literal["b0", "b1", "b2", "b3", "b4"] = "b0"
    """Of efficientnet; each brings its own image size: 224, 240, 260, 300, 380."""
    depth: Literal[18, 34, 50] = 18
    """Of resnet: how many layers."""
    num_classes: Literal[2, 7] = 2
    """2: malignant (mel, bcc, akiec) or not; 7: the diagnoses themselves."""
    dropout_rate: float | None = Field(default=None, ge=0, lt=1)
    """Before the last layer; unset: 0.5 for baseline_cnn, the published rate for efficientnet, none
    for resnet."""
    norm: Literal["batch", "group"] = "batch"
    """group: group normalisation in the place of batch normalisation, so that a sample's gradient
    depends on no other sample, and two ranks compute what one would."""
    pretrained: bool = False
    """Start from the published ImageNet weights, with a new last layer; read from weights_file or
    torch.hub's cache, never downloaded."""
    weights_file: Path | None = None
    """File with the published weights; unset: torch.hub's cache."""
    architecture: ArchitectureConfig = ArchitectureConfig()
    """The layers of baseline_cnn."""


class SkinTrainingConfig(PrivateTrainingConfig):
    """How to train."""

    early_stopping: EarlyStoppingConfig | None = None
    """When to end before the last epoch; without a metric of its own it watches monitor_metric."""
    monitor_metric: str = "val_loss"
    """What decides which checkpoint is best: smallest where the name ends in `loss`, else
    largest."""
    accumulate_grad_batches: int = Field(default=1, ge=1)
    """Batches that make one optimizer step: a step takes batch_size times as many images."""
    limit_train_batches: Limit = None
    """End each epoch after so many batches (a whole number) or that share of them."""
    limit_val_batches: Limit = None
    """The same of validation: its first images."""
    gradient_checkpointing: bool = False
    """Keep no activations inside the backbone's blocks and compute them again for the gradients:
    less memory, about a third more time; running statistics of batch norm move twice a step."""
    freeze_backbone_epochs: int = Field(default=0, ge=0)
    """Epochs in which only the classifier learns, before the rest."""
    unfreeze_lr_factor: float = Field(default=0.1, gt=0, le=1)
    """Learning rate of the backbone over that of the classifier, once it is unfrozen."""
    progressive_unfreezing: bool = False
    """Unfreeze the backbone in parts, from its end to its beginning, at unfreeze_schedule."""
    unfreeze_schedule: tuple[Annotated[int, Field(ge=1)], ...] = (5, 10, 15)
    """Epochs at which another part learns, for progressive_unfreezing; later than the last epoch
    means never."""
    class_weights: Literal["balanced"] | None = None
    """balanced: weigh each class by the inverse of its share of the training images."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if list(self.unfreeze_schedule) != sorted(set(self.unfreeze_schedule)):
            raise ValueError("unfreeze_schedule must rise, such as [5, 10, 15]")
        if self.progressive_unfreezing and self.freeze_backbone_epochs:
            raise ValueError(
                "freeze_backbone_epochs and progressive_unfreezing exclude each other; write the "
                "epochs into unfreeze_schedule"
            )
        if self.trainer_type == "dp" and (self.class_weights or self.gradient_checkpointing):
            raise ValueError(
                "trainer_type dp excludes class_weights and gradient_checkpointing; leave them out"
            )
        if self.freeze_backbone_epochs >= self.epochs and self.freeze_backbone_epochs:
            raise ValueError(
                f"freeze_backbone_epochs ({self.freeze_backbone_epochs}) leaves none of the "
                f"{self.epochs} epochs for the backbone; write fewer"
            )
        return self


class SkinDataConfig(DataConfig):
    """Which images: `images/*.jpg` and `metadata/HAM10000_metadata.csv` below `path`."""

    image_size: int = Field(default=224, ge=8, le=1024)
    """Side of the square that the network sees, in pixels."""
    augment: bool = False
    """Whether training images are changed at random, by the next four."""
    horizontal_flip: Share = 0.5
    """Probability of mirroring left to right."""
    vertical_flip: Share = 0.2
    """Probability of mirroring top to bottom."""
    rotation_degrees: float = Field(default=15.0, ge=0, le=180)
    """Rotate by up to this angle either way."""
    color_jitter: Share = 0.3
    """Change brightness, contrast and saturation by up to this share."""
    subsample_percentage: float = Field(default=1.0, gt=0, le=1)
    """Share of the lesions to use, from 0 to 1; at least three of each class are kept."""
    stratified_sampling: bool = True
    """Whether the subsample keeps the shares of the diagnoses."""
    validation_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of the lesions of each diagnosis that are validated on."""
    test_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of the lesions of each diagnosis that are tested on."""
    fold: int = Field(default=0, ge=0)
    """Which fold to validate on, from 0; only where folds is set."""
    folds: int | None = Field(default=None, ge=2, le=100)
    """Divide all lesions but those of the test into so many folds, stratified by diagnosis, in the
    place of validation_share: the images of a lesion stay together. null: one split."""
    split_seed: int = Field(default=42, ge=0)
    """Of the splits and the subsample; training.seed does not change them."""
    on_bad: OnBad = "stop"
    """A row without image, an unreadable image: stop, or skip it and count it in the report."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green and blue after scaling to [0, 1]; the default is ImageNet's."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divisor of red, green and blue after the mean; the default is ImageNet's."""
    cache_mebibytes: int = Field(default=1024, ge=0)
    """Keep a split's decoded images in memory where they need no more than this, in each process
    that reads them. 0: decode every time."""

    @model_validator(mode="after")
    def _refuse_absent_fold(self) -> Self:
        refuse_absent_fold(self.fold, self.folds)
        if self.fold and self.folds is None:
            raise ValueError(f"fold {self.fold} needs folds, their number; such as folds: 5")
        return self


class Config(PrivateConfig):
    """Skin lesion classification (HAM10000)."""

    aliases = ALIASES + TRAINER_ALIASES
    groups: ClassVar = GROUPS | TRAINER_GROUPS

    preset: Literal["quick", "debug", "production", "high_performance"] | None = None
    """A named set of values, below whatever else is written."""
    model: ModelConfig = ModelConfig()
    """Which network."""
    training: SkinTrainingConfig = SkinTrainingConfig(epochs=50)
    """How to train."""
    data: SkinDataConfig = SkinDataConfig()
    """What to train on."""
    wandb: WandbConfig = WandbConfig(project="skin-lesion-classification")
    """Weights & Biases."""

    def metric_names(self) -> Sequence[str]:
        """sensitivity and specificity: of two classes; epsilon: of a private run."""
        averaged = ("loss", "accuracy", "balanced_accuracy", "f1_score", "macro_f1", "auc")
        return (*averaged, "sensitivity", "specificity", "epsilon")
