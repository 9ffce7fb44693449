"""Recipe `classification`: one network, cross entropy, judged by validation accuracy."""

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.pictures import Image, Picture
from trainyard_trainer.privacy import Privacy
from trainyard_trainer.recipe import (
    Batch,
    Data,
    Gathered,
    Loss,
    Metric,
    Modules,
    Recipe,
    Sink,
    Site,
    Stage,
)
from trainyard_trainer.recipes.classification import metrics as scores
from trainyard_trainer.recipes.classification.augmentation import augment_sample
from trainyard_trainer.recipes.classification.config import Config
from trainyard_trainer.recipes.classification.data import (
    ImageBatches,
    ImageFolder,
    ImageSamples,
    find_images,
)
from trainyard_trainer.recipes.classification.losses import build_loss
from trainyard_trainer.recipes.classification.model import build_model, count_parameters
from trainyard_trainer.registry import recipe

SHORT_NAMES = {"train": "train", "validation": "val", "test": "test"}


@recipe("classification")
class Classification(Recipe[Config]):
    """Image folders in, class indices out."""

    config_class = Config
    best = Metric("val_accuracy", "max")
    final_splits = ("train", "validation", "test")

    def __init__(self, config: Config, site: Site) -> None:
        """A private run averages gradients by itself."""
        super().__init__(config, site)
        self._bad = BadData(config.data.on_bad)
        self.reduces_gradients = config.training.trainer_type == "dp"

    def build_modules(self) -> dict[str, nn.Module]:
        """`model` alone, with as many outputs as the data has classes."""
        found, asked = len(self.folder.classes), self.config.model.num_classes
        if asked not in (None, found):
            raise ConfigurationError(
                f"Model output size ({asked}) doesn't match dataset classes ({found}); write "
                f"model.num_classes: {found}, or leave it out."
            )
        network = build_model(self.config.model, found)
        if self.privacy:
            network = self.privacy.prepare(network)
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

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """One loss, with the batch's accuracy beside it."""
        images, target = batch
        logits = modules["model"](self._normalize(images))
        accuracy = (logits.argmax(dim=1) == target).mean(dtype=torch.float32)
        yield Loss("main", self.criterion(logits, target), {"accuracy": accuracy})

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        """Cross entropy without weights and smoothing, predicted and true class of each image."""
        images, target = batch
        logits = modules["model"](self._normalize(images)).float()
        loss = F.cross_entropy(logits, target, reduction="none")
        return {"loss": loss, "predicted": logits.argmax(dim=1), "target": target}

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """loss, accuracy and macro_f1."""
        matrix = self._matrix(gathered)
        return {
            "loss": gathered["loss"].double().mean().item(),
            "accuracy": scores.accuracy(matrix),
            "macro_f1": scores.macro_f1(matrix),
        } | ({"epsilon": self.privacy.spent} if self.privacy else {})

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """The confusion matrix."""
        matrix = scores.draw_confusion_matrix(self._matrix(gathered), self.folder.classes)
        return {"confusion_matrix": Image(pixels=matrix)}

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Classification report and confusion matrix of each split, and summary.txt."""
        for split, outputs in gathered.items():
            matrix, classes = self._matrix(outputs), self.folder.classes
            name = SHORT_NAMES[split]
            text = scores.classification_report(matrix, classes)
            sink.text(f"reports/classification_report_{name}.txt", text)
            table = scores.confusion_table(matrix, classes)
            sink.file(f"reports/confusion_matrix_{name}.csv", table.encode())
        sink.text("summary.txt", self._summary(metrics))

    def notes(self) -> Mapping[str, str]:
        """What was skipped, and what a private run has spent."""
        found = self.privacy.notes() if self.privacy else {}
        skipped = self._bad.skipped
        return found | (
            {"skipped images": f"{len(skipped)}: {' '.join(skipped)}"} if skipped else {}
        )

    def state_dict(self) -> dict[str, Any]:
        """What has been spent of the privacy budget."""
        return {"privacy": self.privacy.state_dict()} if self.privacy else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        if self.privacy and "privacy" in state:
            self.privacy.load_state_dict(state["privacy"])

    @cached_property
    def privacy(self) -> Privacy | None:
        """None unless trainer_type is dp. Raises ConfigurationError for a budget out of reach."""
        training = self.config.training
        if training.trainer_type != "dp":
            return None
        return Privacy(
            training.dp,
            self.site,
            samples=len(self.folder.splits["train"].files),
            batch_size=training.batch_size,
            epochs=training.epochs,
        )

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
        return find_images(Path(root), data.fold, bad)

    @cached_property
    def criterion(self) -> nn.Module:
        """What is minimised."""
        counts = self.folder.splits["train"].counts(len(self.folder.classes))
        return build_loss(self.config.training.loss, counts).to(self.site.device)

    def _normalize(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 to float, by the configured mean and standard deviation."""
        mean, std = self._mean_and_std
        return (images.float() / 255 - mean) / std

    @cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        """(3, 1, 1) each, on the device."""
        mean, std = (
            torch.tensor(values, device=self.site.device).reshape(3, 1, 1)
            for values in (self.config.data.mean, self.config.data.std)
        )
        return mean, std

    def _matrix(self, gathered: Gathered) -> Tensor:
        classes = len(self.folder.classes)
        return scores.confusion_matrix(gathered["predicted"], gathered["target"], classes)

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
