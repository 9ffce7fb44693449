"""What can be configured; a docstring under a field is its documentation everywhere.

No torch here: the client and the documentation read these models too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainyard_trainer.bad_data import OnBad
from trainyard_trainer.config import DataConfig, Section
from trainyard_trainer.folds import refuse_absent_fold
from trainyard_trainer.privacy_config import TRAINER_GROUPS, PrivateConfig, PrivateTrainingConfig
from trainyard_trainer.recipes.classification.spellings import ALIASES

Architecture = Literal["small_cnn", "resnet18", "resnet50", "efficientnet_b0", "mobilenet_v2"]
Share = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(Section):
    """Random changes to training images; 0 everywhere: none."""

    horizontal_flip: Share = 0.0
    """Probability of mirroring left to right; 0: never. Leave it 0 where mirroring changes the
    class, as it does for digits."""

    vertical_flip: Share = 0.0
    """Probability of mirroring top to bottom; 0: never."""

    rotation_degrees: float = Field(default=0.0, ge=0, le=180)
    """Rotate by up to this angle either way, in degrees; 0: never."""

    translation: Share = 0.0
    """Shift by up to this share of the side along each axis; 0: never."""

    scale: float = Field(default=0.0, ge=0, lt=1)
    """Enlarge or shrink by up to this share; 0: never."""

    brightness: Share = 0.0
    """Multiply brightness by 1 plus or minus up to this share; 0: never."""

    contrast: Share = 0.0
    """Change the distance from the image's mean by up to this share; 0: never."""

    @property
    def is_active(self) -> bool:
        """Whether anything changes."""
        return bool(self.moves_pixels or self.brightness or self.contrast)

    @property
    def moves_pixels(self) -> bool:
        """Whether images are resampled at all."""
        return bool(
            self.horizontal_flip
            or self.vertical_flip
            or self.rotation_degrees
            or self.translation
            or self.scale
        )


class ImageDataConfig(DataConfig):
    """Which images, and how they are brought to one size.

    The folder at `path` holds train/, val/ and test/, or raw/ and splits/; in each of them a folder
    of images is a class.
    """

    dataset_name: str = "dataset"
    """Name of the data set in summaries and run names."""

    fold: int = Field(default=0, ge=0)
    """Which fold to validate on, from 0: its index files where there are raw/ and splits/."""

    folds: int | None = Field(default=None, ge=2, le=100)
    """How many folds train/ and val/ together are divided into, each stratified by class; index
    files have to be of as many. null: as many as there are index files, or the one split."""

    image_size: int = Field(default=224, ge=8, le=4096)
    """Side of the square that the network sees, in pixels. The shorter side is scaled to it
    (bilinear), then the centre is cut out."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from red, green and blue after scaling to [0, 1]; the default is ImageNet's."""

    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Divisor of red, green and blue after the mean; the default is ImageNet's."""

    cache_mebibytes: int = Field(default=1024, ge=0)
    """Keep a split's decoded images in memory where they need no more than this many MiB, in each
    process that reads them; 0: decode every time."""

    on_bad: OnBad = "stop"
    """An image that is absent, empty, cut off or of another format: stop when it is read, or skip
    it and count it in the report; skip looks at every file before the start."""

    augmentation: AugmentationConfig = AugmentationConfig()
    """Random changes to training images, the same for a sample and epoch whenever they are
    repeated."""

    @model_validator(mode="after")
    def _refuse_absent_fold(self) -> Self:
        refuse_absent_fold(self.fold, self.folds)
        return self


class ModelConfig(Section):
    """Which network."""

    architecture: Architecture = "small_cnn"
    """The network: small_cnn for images up to about 64 pixels, the others are torchvision's."""

    weights: Literal["DEFAULT"] | None = None
    """DEFAULT: start from the published ImageNet weights, with a new last layer; read from
    weights_file or torch.hub's cache, never downloaded. null: start from scratch."""

    weights_file: Path | None = None
    """File with the published weights; null: torch.hub's cache. Unused where weights is null."""

    num_classes: int | None = Field(default=None, ge=2)
    """Outputs of the network; null: as many as the data has classes. Another number than that is
    an error."""

    @model_validator(mode="after")
    def _refuse_absent_weights(self) -> Self:
        if self.weights and self.architecture == "small_cnn":
            raise ValueError("'small_cnn' has no published weights; write weights: null")
        return self


class LossConfig(Section):
    """Cross entropy and its options."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target spread evenly over all classes; 0: none."""

    class_weights: Literal["balanced"] | None = None
    """balanced: weigh each class by the inverse of its share of the training images; null: every
    image counts the same."""


class ClassificationTrainingConfig(PrivateTrainingConfig):
    """How to train a classifier."""

    loss: LossConfig = LossConfig()
    """What is minimised."""

    @model_validator(mode="after")
    def _refuse_weights_in_private(self) -> Self:
        if self.trainer_type == "dp" and self.loss.class_weights:
            raise ValueError("trainer_type dp excludes loss.class_weights; leave it out")
        return self


class Config(PrivateConfig):
    """Everything that recipe classification can be told."""

    aliases = ALIASES
    groups: ClassVar = TRAINER_GROUPS

    training: ClassificationTrainingConfig = ClassificationTrainingConfig()
    """How to train."""

    data: ImageDataConfig = ImageDataConfig()
    """What to train on."""

    model: ModelConfig = ModelConfig()
    """Which network."""

    def metric_names(self) -> Sequence[str]:
        """Epsilon: of a private run."""
        return ("loss", "accuracy", "macro_f1", "epsilon")
