"""What can be configured; a docstring under a field is its documentation everywhere.

No torch here: the client and the documentation read these models too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from trainyard_trainer.aliases import Alias, rename, without_effect
from trainyard_trainer.config import DataConfig, RecipeConfig, Section, TrainingConfig

Backbone = Literal["medmae", "vit", "resnet50", "small"]

_GUIDE_NAMES = (
    *(rename(key, f"data.{key}") for key in ("train_csv", "test_csv", "train_dir", "test_dir")),
    *(
        rename(key, f"training.{key}")
        for key in ("epochs_stage1", "epochs_stage2", "epochs_stage3")
    ),
    rename("batch_size", "training.batch_size_per_process"),
    rename("lr", "training.learning_rate"),
    rename("loss", "training.prototype_loss.name"),
    rename("backbone_type", "model.backbone"),
    rename("num_prototypes", "model.num_prototypes"),
    without_effect("output_dir", "results go below spec.storage.uri"),
)


class PrototypeLossConfig(Section):
    """What stage 2 minimises."""

    name: Literal["infonce", "softtriple"] = "infonce"
    """infonce: the guide's choice; softtriple: the paper's (Qian et al., ICCV 2019)."""

    temperature: float = Field(default=0.3, gt=0)
    """For infonce: divisor of the similarities."""

    scale: float = Field(default=20.0, gt=0)
    """For softtriple: lambda, factor of the similarities."""

    margin: float = Field(default=0.01, ge=0)
    """For softtriple: delta, taken off a concept's own similarity."""


class CsrTrainingConfig(TrainingConfig):
    """How to train; `epochs` follows from the three stages."""

    epochs_stage1: int = Field(default=10, ge=1)
    """Epochs of concept learning: backbone and concept head."""

    epochs_stage2: int = Field(default=10, ge=1)
    """Epochs of prototype learning: projector and prototypes."""

    epochs_stage3: int = Field(default=10, ge=1)
    """Epochs of task learning: the task head."""

    batch_size_per_process: int | None = Field(default=16, ge=1)
    """Images of one optimizer step on one rank; the global batch is this times the ranks. null:
    training.batch_size is the global batch."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Of the heads in stages 1 and 3. The backbone learns with a tenth of it, prototypes with ten
    times."""

    prototype_loss: PrototypeLossConfig = PrototypeLossConfig()
    """What stage 2 minimises."""

    task_loss: Literal["bce", "ce"] = "bce"
    """bce: an image may have several diagnoses; ce: it has exactly one."""

    largest_pos_weight: float = Field(default=20.0, ge=1)
    """Upper bound of the weight of a rare label's positives in BCE."""


class XrayDataConfig(DataConfig):
    """Which X-rays and labels; the folder at `path` holds both."""

    train_csv: Path | None = None
    """Labels for training, absolute or below `path`; null: annotations/image_labels_train.csv, or
    labels_train.csv."""

    test_csv: Path | None = None
    """Labels for the test; null: as for training, with `test`."""

    train_dir: Path = Path("train")
    """Folder of the training images, absolute or below `path`."""

    test_dir: Path = Path("test")
    """Folder of the test images."""

    concepts: Literal["all", "vinbigdata"] | tuple[str, ...] = "all"
    """Label columns that are concepts. all: those of VinDr-CXR's 22 findings that the file has;
    vinbigdata: the 14 of the VinBigData challenge; or names of columns."""

    tasks: tuple[str, ...] | None = None
    """Label columns that are diagnoses; null: those of VinDr-CXR's 6 that the file has."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training images that each stage is judged by, drawn with training.seed."""

    image_size: int = Field(default=224, ge=32, le=2048)
    """Side to which an X-ray is resized, in pixels."""

    mean: float = 0.449
    """Subtracted from pixels scaled to [0, 1]; the default is the mean of ImageNet's channels."""

    std: float = Field(default=0.226, gt=0)
    """Divisor after that."""

    cache_mebibytes: int = Field(default=2048, ge=0)
    """Keep a split's resized images in memory where they need no more than this many MiB, in each
    process that reads them; 0: decode every time."""

    bad_files: Literal["stop", "skip"] = "stop"
    """stop: an image that is absent or cannot be read ends the run; skip: it is left out and
    counted in the report. To find out, every file is read once before training."""


class CsrModelConfig(Section):
    """Which network."""

    backbone: Backbone = "medmae"
    """medmae, vit: ViT-B/16; resnet50; small: four convolutions for small images and tests."""

    weights_file: Path | None = None
    """File with the backbone's published weights: a MAE checkpoint, a Hugging Face ViT-MAE, or a
    state dict of timm or torchvision. null: start from scratch; nothing is downloaded."""

    freeze_batch_norm: bool = False
    """Leave batch normalisation as it is published, or as it begins: for small batches. A sample's
    output then does not depend on the others of its rank's batch."""

    num_prototypes: int = Field(default=5, ge=1, le=100)
    """Prototypes of each concept (M)."""

    projection_size: int = Field(default=128, ge=2)
    """Width of the space that prototypes lie in."""

    gamma: float = Field(default=10.0, gt=0)
    """Sharpness of the softmax over a concept's prototypes."""


def _model_name() -> Alias:
    """A path is a file of weights; a bare name would have to be downloaded."""

    def read(value: object) -> dict[str, object]:
        text = str(value)
        is_path = text.startswith(("/", "./", "../")) or Path(text).suffix != ""
        return {"model.weights_file": text} if is_path else {}

    says = "model.weights_file where it is a path; a name alone brings no weights"
    return Alias("model_name", read, says)


class Config(RecipeConfig):
    """Everything that recipe csr can be told."""

    aliases = (*_GUIDE_NAMES, _model_name())

    exp_name: str = "csr_exp"
    """Name of the experiment in the summary."""

    training: CsrTrainingConfig = CsrTrainingConfig()
    """How to train."""

    data: XrayDataConfig = XrayDataConfig()
    """What to train on."""

    model: CsrModelConfig = CsrModelConfig()
    """Which network."""

    linear_baseline: bool = False
    """Also judge a linear model on 32x32 pixels on the test images: test_baseline_auc. It takes
    seconds for a thousand images."""

    @model_validator(mode="after")
    def _one_kind_of_batch(self) -> Self:
        training = self.training
        default = CsrTrainingConfig.model_fields["batch_size"].default
        if training.batch_size != default and training.batch_size_per_process is not None:
            raise ValueError(
                f"training.batch_size: {training.batch_size} says nothing while "
                f"batch_size_per_process is {training.batch_size_per_process}; write "
                "training.batch_size_per_process: null"
            )
        return self

    def batch_size(self, world_size: int) -> int:
        """Images of one optimizer step over all ranks."""
        own = self.training.batch_size_per_process
        return self.training.batch_size if own is None else own * world_size

    def metric_names(self) -> Sequence[str]:
        """Those of pointing: where there are boxes; baseline_auc: of the test alone."""
        peaks = ("pointing", "pointing_chance", "prototype_pointing")
        return ("loss", "auc", "concept_auc", "baseline_auc", *peaks)
