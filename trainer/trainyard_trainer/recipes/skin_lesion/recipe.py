"""Recipe `skin-lesion`: HAM10000, benign or malignant, or all seven diagnoses."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.group_norm import replace_batch_norm
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.pictures import Curves, Grid, Image, Picture
from trainyard_trainer.privacy import Privacy
from trainyard_trainer.recipe import (
    Batch,
    Data,
    Gathered,
    Loss,
    Metric,
    Modules,
    Recipe,
    Sampler,
    Sink,
    Site,
    Stage,
)
from trainyard_trainer.recipes.classification import metrics as counts
from trainyard_trainer.recipes.classification.data import ImageSplit
from trainyard_trainer.recipes.skin_lesion import plan
from trainyard_trainer.recipes.skin_lesion.config import Config
from trainyard_trainer.recipes.skin_lesion.data import (
    LimitedSampler,
    SkinData,
    build_augment,
    build_samples,
    find_splits,
    mean_and_std,
)
from trainyard_trainer.recipes.skin_lesion.metrics import roc_lines, score
from trainyard_trainer.recipes.skin_lesion.model import (
    backbone_units,
    build_model,
    recompute_activations,
)
from trainyard_trainer.recipes.skin_lesion.wandb_run import WandbRun
from trainyard_trainer.registry import recipe

SHORT_NAMES = {"train": "train", "validation": "val", "test": "test"}
SHOWN = 8
"""Images in the picture of the worst mistakes."""


@recipe("skin-lesion")
class SkinLesion(Recipe[Config]):
    """Photographs of lesions in, class indices out."""

    config_class = Config
    final_splits = ("validation", "test")

    def __init__(self, config: Config, site: Site) -> None:
        """The main metric is the configuration's."""
        super().__init__(config, site)
        monitored = config.training.monitor_metric
        self.best = Metric(monitored, "min" if monitored.endswith("loss") else "max")
        self.reduces_gradients = config.training.trainer_type == "dp"
        self._wandb = WandbRun(config, site) if config.wandb.enabled else None

    def build_modules(self) -> dict[str, nn.Module]:
        """`model` alone."""
        self.network = build_model(self.config.model)
        if self.config.model.norm == "group":
            self.network = replace_batch_norm(self.network)
        if self.config.training.gradient_checkpointing:
            recompute_activations(self.network, backbone_units(self.config.model))
        if self.privacy:
            self.network = self.privacy.prepare(self.network)
        if self._wandb:
            self._wandb.watch(self.network)
        return {"model": self.network}

    def stages(self) -> list[Stage]:
        """As freezing and unfreezing demand."""
        training = self.config.training
        if self.privacy:
            training = training.model_copy(update={"epochs": self.privacy.epochs})
        return plan.build_stages(training, self.config.model)

    def build_data(self, stage: Stage) -> Data:
        """The three splits; images stay bytes until they are on the device."""
        config, splits, training = self.config.data, self.found.splits, self.config.training
        batch = training.batch_size
        kept = _limited(len(splits["val"].files), training.limit_val_batches, batch)
        validation = _first(splits["val"], kept)
        augment = build_augment(config)
        return Data(
            train=build_samples(splits["train"], config, augmented=augment is not None),
            validation=build_samples(validation, config, augmented=False),
            test=build_samples(splits["test"], config, augmented=False),
            augment=augment,
            sampler=self._sampler(len(splits["train"].files)),
        )

    def begin_stage(self, stage: Stage, data: Data) -> None:
        """Frozen parts keep their running statistics, too."""
        for name in plan.frozen_parts(stage, self.config.model):
            self.network.get_submodule(name).eval()

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        """One, with a rate for the head and one for the backbone."""
        training = self.config.training
        groups = plan.parameter_groups(stage, modules["model"], self.config.model, training)
        optimizer = build_optimizer(groups, training.optimizer, training.learning_rate)
        if self.privacy:
            self.privacy.attach(optimizer)
        return {"main": optimizer}

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """Cross entropy, with the batch's accuracy beside it."""
        images, target = batch
        logits = modules["model"](self._normalize(images))
        accuracy = (logits.argmax(dim=1) == target).mean(dtype=torch.float32)
        loss = F.cross_entropy(logits, target, weight=self._class_weights)
        yield Loss("main", loss, {"accuracy": accuracy})

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        """Cross entropy without weights, the classes' probabilities and the true class."""
        images, target = batch
        logits = modules["model"](self._normalize(images)).float()
        loss = F.cross_entropy(logits, target, reduction="none")
        return {"loss": loss, "probabilities": logits.softmax(dim=1), "target": target}

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """See metrics.score."""
        loss = gathered["loss"].double().mean().item()
        found = {"loss": loss} | score(gathered["probabilities"], gathered["target"])
        return found | ({"epsilon": self.privacy.spent} if self.privacy else {})

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """ROC curves, the confusion matrix and the worst mistakes."""
        classes, probabilities = self.found.classes, gathered["probabilities"]
        lines = roc_lines(probabilities, gathered["target"], classes)
        matrix = counts.draw_confusion_matrix(self._matrix(gathered), classes)
        shown: dict[str, Picture] = {
            "roc": Curves(
                lines=lines,
                x_label="false positive rate",
                y_label="true positive rate",
                title=f"ROC, {SHORT_NAMES[split]}",
                diagonal=True,
            ),
            "confusion_matrix": Image(pixels=matrix),
        }
        worst = gathered["loss"].topk(min(SHOWN, len(gathered["loss"]))).indices.tolist()
        images = build_samples(self._split(split), self.config.data, augmented=True)
        pixels = [images[index][0] for index in worst]
        captions = [classes[int(gathered["target"][index])] for index in worst]
        return shown | {
            "worst_mistakes": Grid(rows={"image, true class": pixels}, captions=captions)
        }

    def report(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """To Weights & Biases, where that is enabled."""
        if self._wandb:
            self._wandb.log(
                self.position, {f"{SHORT_NAMES[split]}_{k}": v for k, v in metrics.items()}
            )

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Classification report and confusion matrix of each split."""
        for split, outputs in gathered.items():
            matrix, name = self._matrix(outputs), SHORT_NAMES[split]
            text = counts.classification_report(matrix, self.found.classes)
            sink.text(f"reports/classification_report_{name}.txt", text)
            table = counts.confusion_table(matrix, self.found.classes)
            sink.file(f"reports/confusion_matrix_{name}.csv", table.encode())
        if self._wandb:
            self._wandb.finish(metrics, sink)

    def notes(self) -> Mapping[str, str]:
        """What was skipped, and how many images of each class there are."""
        found = {
            f"images of {name}": ", ".join(
                f"{count} {label}"
                for count, label in zip(
                    split.counts(len(self.found.classes)), self.found.classes, strict=True
                )
            )
            for name, split in self.found.splits.items()
        }
        skipped = self.found.skipped
        if self.privacy:
            found |= self.privacy.notes()
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
            samples=len(self.found.splits["train"].files),
            batch_size=training.batch_size * training.accumulate_grad_batches,
            epochs=training.epochs,
        )

    @cached_property
    def found(self) -> SkinData:
        """The data set's splits and classes."""
        root = self.site.data_path
        if root is None:
            raise ConfigurationError(
                "data.path: is not set; write the folder of HAM10000, or spec.dataset."
            )
        return find_splits(Path(root), self.config.data, self.config.model.num_classes)

    @cached_property
    def _class_weights(self) -> Tensor | None:
        if self.config.training.class_weights is None:
            return None
        numbers = self.found.splits["train"].counts(len(self.found.classes))
        found = torch.tensor(numbers, dtype=torch.float32, device=self.site.device)
        return found.sum() / (len(numbers) * found)

    @cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        return mean_and_std(self.config.data, self.site.device)

    def _normalize(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 to float, by the configured mean and standard deviation."""
        mean, std = self._mean_and_std
        return (images.float() / 255 - mean) / std

    def _sampler(self, size: int) -> Sampler | None:
        training = self.config.training
        if self.privacy:
            return self.privacy.sampler
        if training.limit_train_batches is None:
            return None
        kept = _limited(size, training.limit_train_batches, training.batch_size)
        return LimitedSampler(size, training.seed, kept)

    def _split(self, split: str) -> ImageSplit:
        return self.found.splits[SHORT_NAMES[split]]

    def _matrix(self, gathered: Gathered) -> Tensor:
        classes = len(self.found.classes)
        predicted = gathered["probabilities"].argmax(dim=1)
        return counts.confusion_matrix(predicted, gathered["target"], classes)


def _limited(size: int, limit: int | float | None, batch_size: int) -> int:
    """Samples of so many batches, or of that share of them: at least one batch."""
    if limit is None:
        return size
    batches = -(-size // batch_size)
    kept = limit if isinstance(limit, int) else max(1, int(limit * batches))
    return min(size, kept * batch_size)


def _first(split: ImageSplit, count: int) -> ImageSplit:
    return ImageSplit(name=split.name, files=split.files[:count], labels=split.labels[:count])
