"""What recipes share whose one network, `model`, tells of an image which class it belongs to."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard_trainer.group_norm import replace_batch_norm
from trainyard_trainer.predictions import Prediction
from trainyard_trainer.privacy import Privacy, without_in_place
from trainyard_trainer.privacy_config import PrivateConfig
from trainyard_trainer.recipe import Batch, Gathered, Loss, Modules, Recipe, Sink, Site
from trainyard_trainer.recipes.classification import metrics as scores
from trainyard_trainer.recipes.classification.config import LossConfig
from trainyard_trainer.recipes.classification.data import ImageSplit, load_image
from trainyard_trainer.recipes.classification.losses import build_loss
from trainyard_trainer.recipes.classification.views import TtaOptions, mean_probabilities

SHORT_NAMES = {"train": "train", "validation": "val", "test": "test"}
Colour = tuple[float, float, float]


class PixelScale(Protocol):
    """Size, and red, green and blue after scaling to [0, 1]."""

    @property
    def image_size(self) -> int:
        """Side of the square that the network sees, in pixels."""

    @property
    def mean(self) -> Colour:
        """What is subtracted."""

    @property
    def std(self) -> Colour:
        """What is divided by then."""


ConfigT = TypeVar("ConfigT", bound=PrivateConfig)


class ImageClassifier(Recipe[ConfigT]):
    """Batches are (B, 3, S, S) uint8 images and (B,) class indices."""

    prediction_options = TtaOptions

    def __init__(self, config: ConfigT, site: Site) -> None:
        """A private run adds up gradients by itself."""
        super().__init__(config, site)
        self.reduces_gradients = config.training.trainer_type == "dp"

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """In the order of the network's outputs."""

    @property
    @abstractmethod
    def splits(self) -> Mapping[str, ImageSplit]:
        """train, val and test."""

    @property
    @abstractmethod
    def skipped(self) -> list[str]:
        """A sentence for each image that was left out."""

    @property
    @abstractmethod
    def scale(self) -> PixelScale:
        """What images are normalised by."""

    @property
    @abstractmethod
    def loss_config(self) -> LossConfig:
        """What is minimised."""

    @abstractmethod
    def outputs(self, logits: Tensor) -> Mapping[str, Tensor]:
        """What is gathered of (B, C) logits, beside loss and target."""

    @abstractmethod
    def predicted(self, gathered: Gathered) -> Tensor:
        """(N,) class indices."""

    @property
    def step_size(self) -> int:
        """Images that an optimizer step takes."""
        return self.config.training.batch_size

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """One loss, with the batch's accuracy beside it."""
        images, target = batch
        logits = modules["model"](self.normalize(images))
        accuracy = (logits.argmax(dim=1) == target).mean(dtype=torch.float32)
        yield Loss("main", self.criterion(logits, target), {"accuracy": accuracy})

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        """Cross entropy without weights and smoothing, `outputs` and the true class."""
        images, target = batch
        logits = modules["model"](self.normalize(images)).float()
        loss = F.cross_entropy(logits, target, reduction="none")
        return {"loss": loss, **self.outputs(logits), "target": target}

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Classification report and confusion matrix of each split."""
        for split, outputs in gathered.items():
            matrix, name = self.matrix(outputs), SHORT_NAMES[split]
            text = scores.classification_report(matrix, self.classes)
            sink.text(f"reports/classification_report_{name}.txt", text)
            table = scores.confusion_table(matrix, self.classes)
            sink.file(f"reports/confusion_matrix_{name}.csv", table.encode())

    def predict(self, modules: Modules, file: Path, options: TtaOptions) -> Prediction:
        """The likeliest class of an image, and every class's probability."""
        image = load_image(file, self.scale.image_size).to(self.site.device)
        images = self.normalize(image[None])
        found = mean_probabilities(modules["model"], images, options.tta)[0]
        likeliest = self.classes[int(found.argmax())]
        return Prediction(
            columns=["file", "predicted", *self.classes],
            rows=[[str(file), likeliest, *found.tolist()]],
        )

    def example_inputs(self) -> Mapping[str, Tensor]:
        """Two normalised images."""
        side = self.scale.image_size
        return {"model": torch.randn(2, 3, side, side)}

    def notes(self) -> Mapping[str, str]:
        """What a private run has spent, and what was skipped."""
        found = dict(self.privacy.notes()) if self.privacy else {}
        if skipped := self.skipped:
            found["skipped images"] = f"{len(skipped)}: {' '.join(skipped)}"
        return found

    def state_dict(self) -> dict[str, Any]:
        """What has been spent of the privacy budget."""
        return {"privacy": self.privacy.state_dict()} if self.privacy else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        if self.privacy and "privacy" in state:
            self.privacy.load_state_dict(state["privacy"])

    def made_private(self, network: nn.Module) -> nn.Module:
        """As a private run trains it; without data to train on, only of the same layers."""
        if self.config.training.trainer_type != "dp":
            return network
        if self.privacy:
            return self.privacy.prepare(network)
        return without_in_place(replace_batch_norm(network))

    @cached_property
    def privacy(self) -> Privacy | None:
        """None unless trainer_type is dp and there is data to train on.

        Raises ConfigurationError for a budget out of reach.
        """
        training = self.config.training
        if training.trainer_type != "dp" or self.site.labels is not None:
            return None
        return Privacy(
            training.dp,
            self.site,
            samples=len(self.splits["train"].files),
            batch_size=self.step_size,
            epochs=training.epochs,
        )

    @cached_property
    def criterion(self) -> nn.Module:
        """What is minimised; classes are weighed by the training images."""
        counts = self.splits["train"].counts(len(self.classes))
        return build_loss(self.loss_config, counts).to(self.site.device)

    def matrix(self, gathered: Gathered) -> Tensor:
        """(C, C) counts: see metrics.py."""
        predicted, target = self.predicted(gathered), gathered["target"]
        return scores.confusion_matrix(predicted, target, len(self.classes))

    def spent(self) -> dict[str, float]:
        """Epsilon so far, as a metric of a private run."""
        return {"epsilon": self.privacy.spent} if self.privacy else {}

    def normalize(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 to float, by the configured mean and standard deviation."""
        mean, std = self._mean_and_std
        return (images.float() / 255 - mean) / std

    @cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        return mean_and_std(self.scale, self.site.device)


def mean_and_std(scale: PixelScale, device: torch.device) -> tuple[Tensor, Tensor]:
    """(3, 1, 1) each, on the device."""
    mean, std = (
        torch.tensor(values, device=device).reshape(3, 1, 1) for values in (scale.mean, scale.std)
    )
    return mean, std
