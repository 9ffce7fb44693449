"""Recipe `skin-lesion`: HAM10000, benign or malignant, or all seven diagnoses."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.group_norm import replace_batch_norm
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.pictures import Curves, Grid, Image, Picture
from trainyard_trainer.recipe import Data, Gathered, Metric, Modules, Sampler, Sink, Site, Stage
from trainyard_trainer.recipes.classification import metrics as counts
from trainyard_trainer.recipes.classification.classifier import SHORT_NAMES, ImageClassifier
from trainyard_trainer.recipes.classification.config import LossConfig
from trainyard_trainer.recipes.classification.data import ImageSplit
from trainyard_trainer.recipes.skin_lesion import lesions, plan
from trainyard_trainer.recipes.skin_lesion.config import Config, SkinDataConfig
from trainyard_trainer.recipes.skin_lesion.data import (
    LimitedSampler,
    SkinData,
    build_augment,
    build_samples,
    find_splits,
)
from trainyard_trainer.recipes.skin_lesion.metrics import roc_lines, score
from trainyard_trainer.recipes.skin_lesion.model import (
    backbone_units,
    build_model,
    recompute_activations,
)
from trainyard_trainer.registry import recipe
from trainyard_trainer.wandb_run import WandbRun

SHOWN = 8
"""Images in the picture of the worst mistakes."""


@recipe("skin-lesion")
class SkinLesion(ImageClassifier[Config]):
    """Photographs of lesions in, class indices out."""

    config_class = Config
    final_splits = ("validation", "test")
    initial_weights = ("model.pretrained",)

    def __init__(self, config: Config, site: Site) -> None:
        """The main metric is the configuration's."""
        super().__init__(config, site)
        monitored = config.training.monitor_metric
        self.best = Metric(monitored, "min" if monitored.endswith("loss") else "max")
        self._wandb = WandbRun(config.wandb, config, site, "wandb")

    def build_modules(self) -> dict[str, nn.Module]:
        """`model` alone."""
        self.network = build_model(self.config.model)
        if self.config.model.norm == "group":
            self.network = replace_batch_norm(self.network)
        if self.config.training.gradient_checkpointing:
            recompute_activations(self.network, backbone_units(self.config.model))
        self.network = self.made_private(self.network)
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
        groups = plan.parameter_groups(modules["model"], self.config.model, training)
        optimizer = build_optimizer(groups, training.optimizer, training.learning_rate)
        if self.privacy:
            self.privacy.attach(optimizer)
        return {"main": optimizer}

    def outputs(self, logits: Tensor) -> Mapping[str, Tensor]:
        """The classes' probabilities."""
        return {"probabilities": logits.softmax(dim=1)}

    def predicted(self, gathered: Gathered) -> Tensor:
        """The likeliest class."""
        found: Tensor = gathered["probabilities"].argmax(dim=1)
        return found

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """See metrics.score."""
        loss = gathered["loss"].double().mean().item()
        found = {"loss": loss} | score(gathered["probabilities"], gathered["target"])
        return found | self.spent()

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """ROC curves, the confusion matrix and the worst mistakes."""
        classes, probabilities = self.classes, gathered["probabilities"]
        lines = roc_lines(probabilities, gathered["target"], classes)
        matrix = counts.draw_confusion_matrix(self.matrix(gathered), classes)
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
        self._wandb.log(self.position, {f"{SHORT_NAMES[split]}_{k}": v for k, v in metrics.items()})

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """As any classifier, and the end of Weights & Biases."""
        super().finish(gathered, metrics, sink)
        self._wandb.finish(metrics, sink)

    def notes(self) -> Mapping[str, str]:
        """How many images of each class there are, and what was skipped."""
        found = {
            f"images of {name}": ", ".join(
                f"{count} {label}"
                for count, label in zip(split.counts(len(self.classes)), self.classes, strict=True)
            )
            for name, split in self.splits.items()
        }
        return {**found, **super().notes()}

    @property
    def classes(self) -> list[str]:
        """Two, or the seven diagnoses."""
        return lesions.class_names(self.config.model.num_classes)

    @property
    def splits(self) -> Mapping[str, ImageSplit]:
        """As the table was divided."""
        return self.found.splits

    @property
    def skipped(self) -> list[str]:
        """Rows without a usable image."""
        return self.found.skipped

    @property
    def scale(self) -> SkinDataConfig:
        """Of `data`."""
        return self.config.data

    @property
    def loss_config(self) -> LossConfig:
        """Cross entropy."""
        return LossConfig(class_weights=self.config.training.class_weights)

    @property
    def step_size(self) -> int:
        """Of as many batches as are accumulated."""
        training = self.config.training
        return training.batch_size * training.accumulate_grad_batches

    @cached_property
    def found(self) -> SkinData:
        """The data set's splits and classes."""
        root = self.site.data_path
        if root is None:
            raise ConfigurationError(
                "data.path: is not set; write the folder of HAM10000, or spec.dataset."
            )
        return find_splits(Path(root), self.config.data, self.config.model.num_classes)

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


def _limited(size: int, limit: int | float | None, batch_size: int) -> int:
    """Samples of so many batches, or of that share of them: at least one batch."""
    if limit is None:
        return size
    batches = -(-size // batch_size)
    kept = limit if isinstance(limit, int) else max(1, int(limit * batches))
    return min(size, kept * batch_size)


def _first(split: ImageSplit, count: int) -> ImageSplit:
    return ImageSplit(name=split.name, files=split.files[:count], labels=split.labels[:count])
