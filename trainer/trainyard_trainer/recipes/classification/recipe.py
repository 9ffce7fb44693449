"""Recipe `classification`: one network, cross entropy, judged by validation accuracy."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.pictures import Image, Picture
from trainyard_trainer.recipe import Data, Gathered, Metric, Modules, Sink, Site, Stage
from trainyard_trainer.recipes.classification import metrics as scores
from trainyard_trainer.recipes.classification.augmentation import augment_sample
from trainyard_trainer.recipes.classification.classifier import ImageClassifier
from trainyard_trainer.recipes.classification.config import Config, ImageDataConfig, LossConfig
from trainyard_trainer.recipes.classification.data import (
    ImageBatches,
    ImageFolder,
    ImageSamples,
    ImageSplit,
    find_images,
)
from trainyard_trainer.recipes.classification.model import build_model, count_parameters
from trainyard_trainer.registry import recipe


@recipe("classification")
class Classification(ImageClassifier[Config]):
    """Image folders in, class indices out."""

    config_class = Config
    best = Metric("val_accuracy", "max")
    initial_weights = ("model.weights",)
    final_splits = ("train", "validation", "test")

    def __init__(self, config: Config, site: Site) -> None:
        """Takes note of images that are not whole."""
        super().__init__(config, site)
        self._bad = BadData(config.data.on_bad)

    def build_modules(self) -> dict[str, nn.Module]:
        """`model` alone, with as many outputs as the data has classes."""
        found, asked = len(self.classes), self.config.model.num_classes
        if asked not in (None, found):
            raise ConfigurationError(
                f"Model output size ({asked}) doesn't match dataset classes ({found}); write "
                f"model.num_classes: {found}, or leave it out."
            )
        network = self.made_private(build_model(self.config.model, found))
        self.parameters = count_parameters(network)
        return {"model": network}

    def build_data(self, stage: Stage) -> Data:
        """The three splits; images stay bytes until they are on the device."""
        data, splits = self.config.data, self.folder.splits
        cache_bytes = data.cache_mebibytes * 2**20
        changes = data.augmentation
        kind = ImageSamples if changes.is_active else ImageBatches
        return Data(
            train=kind(splits["train"], data.image_size, cache_bytes),
            validation=ImageBatches(splits["val"], data.image_size, cache_bytes),
            test=ImageBatches(splits["test"], data.image_size, cache_bytes),
            augment=partial(augment_sample, changes) if changes.is_active else None,
            sampler=self.privacy.sampler if self.privacy else None,
        )

    def stages(self) -> list[Stage]:
        """One; of fewer epochs where the privacy budget pays for no more."""
        training = self.config.training
        return [
            Stage(name="train", epochs=self.privacy.epochs if self.privacy else training.epochs)
        ]

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        """One, which a private run keeps from seeing single samples."""
        optimizers = super().build_optimizers(stage, modules)
        if self.privacy:
            self.privacy.attach(optimizers["main"])
        return optimizers

    def outputs(self, logits: Tensor) -> Mapping[str, Tensor]:
        """The predicted class of each image."""
        return {"predicted": logits.argmax(dim=1)}

    def predicted(self, gathered: Gathered) -> Tensor:
        """As the batches had it."""
        found: Tensor = gathered["predicted"]
        return found

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """loss, accuracy and macro_f1."""
        matrix = self.matrix(gathered)
        return {
            "loss": gathered["loss"].double().mean().item(),
            "accuracy": scores.accuracy(matrix),
            "macro_f1": scores.macro_f1(matrix),
        } | self.spent()

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """The confusion matrix."""
        matrix = scores.draw_confusion_matrix(self.matrix(gathered), self.folder.classes)
        return {"confusion_matrix": Image(pixels=matrix)}

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Classification report and confusion matrix of each split, and summary.txt."""
        super().finish(gathered, metrics, sink)
        sink.text("summary.txt", self._summary(metrics))

    @property
    def classes(self) -> list[str]:
        """Names of the folders, sorted."""
        told = self.site.labels
        return self.folder.classes if told is None else [*told["classes"]]

    def labels(self) -> Mapping[str, Sequence[str]]:
        """The classes."""
        return {"classes": self.classes}

    @property
    def splits(self) -> Mapping[str, ImageSplit]:
        """As the folders or the index files have them."""
        return self.folder.splits

    @property
    def skipped(self) -> list[str]:
        """Images whose files are not whole."""
        return self._bad.skipped

    @property
    def scale(self) -> ImageDataConfig:
        """Of `data`."""
        return self.config.data

    @property
    def loss_config(self) -> LossConfig:
        """Of `training`."""
        return self.config.training.loss

    @cached_property
    def folder(self) -> ImageFolder:
        """The data set's files and classes."""
        root = self.site.data_path
        if root is None:
            raise ConfigurationError(
                "data.path: is not set; write the folder with the images, or spec.dataset."
            )
        data = self.config.data
        bad = self._bad if data.on_bad == "skip" else None
        return find_images(Path(root), data.fold, bad, folds=data.folds)

    def _summary(self, metrics: Mapping[str, float]) -> str:
        model, folder = self.config.model, self.folder
        sizes = {name: len(split.files) for name, split in folder.splits.items()}
        lines = {
            "dataset": f"{self.config.data.dataset_name} {sizes}",
            "classes": ", ".join(folder.classes),
            "architecture": model.architecture,
            "parameters": self.parameters,
            "steps": self.position.step,
        } | {name: f"{value:.4f}" for name, value in sorted(metrics.items())}
        return "".join(f"{name}: {value}\n" for name, value in lines.items())
