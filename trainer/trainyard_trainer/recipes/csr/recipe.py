"""Recipe `csr`: concepts, prototypes and diagnoses, one after the other, on chest X-rays."""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.console import log, success
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.metrics import Counts
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.pictures import Picture
from trainyard_trainer.predictions import Prediction
from trainyard_trainer.recipe import (
    Batch,
    Data,
    Gathered,
    Loss,
    Metric,
    Modules,
    Recipe,
    Sink,
    Stage,
)
from trainyard_trainer.recipes.csr import losses, metrics
from trainyard_trainer.recipes.csr.backbones import load_published
from trainyard_trainer.recipes.csr.baseline import linear_scores
from trainyard_trainer.recipes.csr.config import Config
from trainyard_trainer.recipes.csr.data import XrayFolder, XraySamples, find_xrays
from trainyard_trainer.recipes.csr.figures import draw_maps, draw_prototypes, draw_rocs
from trainyard_trainer.recipes.csr.model import CSR
from trainyard_trainer.recipes.csr.predict import PredictOptions, predict_file
from trainyard_trainer.registry import recipe

_BACKBONE_SHARE, _PROTOTYPE_FACTOR = 0.1, 10.0
"""Of the learning rate."""
_EXPORT_EVERY = 5
"""Epochs of stage 2 between two files of weights."""
_TITLES = {"concepts": "Concept", "prototypes": "Prototype", "task": "Task"}


@recipe("csr")
class CsrRecipe(Recipe[Config]):
    """X-rays in; concepts with maps, and diagnoses that follow from them, out."""

    config_class = Config
    best = Metric("val_auc", "max")
    final_splits = ("validation", "test")
    initial_weights = ("model.weights_file",)
    prediction_options = PredictOptions

    def build_modules(self) -> dict[str, nn.Module]:
        """`csr` alone."""
        model = self.config.model
        named = self.labels()
        self.network = CSR(
            len(named["concepts"]),
            len(named["tasks"]),
            model.num_prototypes,
            backbone=model.backbone,
            image_size=self.config.data.image_size,
            projection_size=model.projection_size,
        )
        if model.weights_file is not None:
            load_published(self.network.backbone, model.weights_file)
        self.network.freezes_statistics = model.freeze_batch_norm
        self._judged = self.network
        self._best: dict[str, float] = {}
        return {"csr": self.network}

    def labels(self) -> Mapping[str, Sequence[str]]:
        """Concepts and diagnoses."""
        told = self.site.labels
        return told or {"concepts": self.folder.concepts, "tasks": self.folder.tasks}

    def stages(self) -> list[Stage]:
        """Concepts, prototypes, task; only the first and the last are judged."""
        training = self.config.training
        size = self.config.batch_size(self.site.world_size)
        learnt = {
            "concepts": (training.epochs_stage1, ("csr.backbone", "csr.concept_head")),
            "prototypes": (training.epochs_stage2, ("csr.projector", "csr.prototypes")),
            "task": (training.epochs_stage3, ("csr.task_head",)),
        }
        return [
            Stage(
                name=name,
                epochs=epochs,
                trainable=trainable,
                batch_size=size,
                evaluate=name != "prototypes",
                best=self.best,
            )
            for name, (epochs, trainable) in learnt.items()
        ]

    def build_data(self, stage: Stage) -> Data:
        """The same X-rays in every stage."""
        return self._data

    @cached_property
    def _data(self) -> Data:
        data, splits = self.config.data, self.folder.splits
        cache_bytes = data.cache_mebibytes * 2**20
        train = XraySamples(splits["train"], data.image_size, cache_bytes)
        validation, test = (
            XraySamples(splits[name], data.image_size, cache_bytes, with_boxes=True)
            for name in ("validation", "test")
        )
        return Data(train=train, validation=validation, test=test)

    def begin_stage(self, stage: Stage, data: Data) -> None:
        """Say which stage begins, and weigh rare labels."""
        number = self.position.stage_index + 1
        log.info("--- START STAGE %d: %s Learning ---", number, _TITLES[stage.name])
        if stage.name == "prototypes":
            return
        weights = self._positive_weights[stage.name]
        log.info("Pos weights range: %.2f - %.2f", weights.min().item(), weights.max().item())

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        """The backbone with a tenth of the rate, prototypes with ten times, heads with the rate."""
        training, network = self.config.training, self.network
        rate = training.learning_rate
        groups: dict[str, list[dict[str, Any]]] = {
            "concepts": [
                {"params": network.backbone.parameters(), "lr": _BACKBONE_SHARE * rate},
                {"params": network.concept_head.parameters()},
            ],
            "prototypes": [
                {
                    "params": [*network.projector.parameters(), network.prototypes],
                    "lr": _PROTOTYPE_FACTOR * rate,
                }
            ],
            "task": [{"params": network.task_head.parameters()}],
        }
        return {"main": build_optimizer(groups[stage.name], training.optimizer, rate)}

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """BCE of concepts, a contrastive loss of prototypes, BCE or CE of diagnoses."""
        images, concepts, tasks = batch[:3]
        goal = self._goal
        output = modules["csr"](self._normalize(images), goal)
        if goal == "prototypes":
            yield Loss("main", self._prototype_loss(output, concepts))
        else:
            labels = concepts if goal == "concepts" else tasks
            yield Loss("main", self._label_losses(goal, output, labels).mean())

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        """Losses and logits of each image; how many maps have their peak in a box."""
        images, concepts, tasks, boxes = batch
        network = modules["csr"]
        assert isinstance(network, CSR)  # noqa: S101
        self._judged = network
        features = network.backbone(self._normalize(images))
        maps = network.concept_maps(features)
        found = {
            "concept_scores": maps.mean(dim=(2, 3)).float(),
            "concepts": concepts,
            "pointing": Counts(metrics.pointing(maps, boxes)),
        }
        if self._goal == "concepts":
            rows = self._label_losses("concepts", found["concept_scores"], concepts)
            return found | {"loss": rows}
        similar = network.similarity_maps(features)
        logits = network.diagnose(similar).float()
        rows = self._label_losses("task", logits, tasks)
        hits = Counts(metrics.pointing(similar.amax(dim=2), boxes))
        judged = {"loss": rows, "task_scores": logits, "tasks": tasks}
        return found | judged | {"prototype_pointing": hits}

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """auc, of the stage's own labels; concept_auc; where there are boxes, shares of peaks in
        them; of the test images baseline_auc, where it is configured."""
        concept_auc = metrics.mean_auc(gathered["concept_scores"], gathered["concepts"])
        found = {"loss": gathered["loss"].double().mean().item(), "auc": concept_auc}
        if "tasks" in gathered:
            found["auc"] = metrics.mean_auc(gathered["task_scores"], gathered["tasks"])
            found["concept_auc"] = concept_auc
        if split == "test" and self.config.linear_baseline:
            scores = linear_scores(self._data.train, self._data.test)  # type: ignore[arg-type]
            found["baseline_auc"] = metrics.mean_auc(scores, gathered["tasks"])
        peaks = ("pointing", "prototype_pointing")
        return found | metrics.pointing_shares({n: gathered[n] for n in peaks if n in gathered})

    def end_epoch(self, values: Mapping[str, float], sink: Sink) -> None:
        """The guide's lines, and its files of weights."""
        stage, epoch = self.position.stage, self.position.epoch + 1
        assert stage is not None  # noqa: S101
        number = self.position.stage_index + 1
        log.info("Epoch %d: Train Loss %.4f", epoch, values["train_loss"])
        if "val_auc" in values:
            loss, area = values["val_loss"], values["val_auc"]
            log.info("Epoch %d: Val Loss %.4f, AUC %.4f", epoch, loss, area)
            if self.best.is_better(area, self._best.get(stage.name)):
                self._best[stage.name] = area
                self._export(f"best_model_stage{number}.pth", self._judged, sink)
                success("Saved best Stage %d model (AUC: %.4f)", number, area)
        elif stage.name == "prototypes" and epoch % _EXPORT_EVERY == 0:
            self._export(f"model_stage2_epoch{epoch}.pth", self.network, sink)
        if stage.name == "task" and epoch == stage.epochs:
            self._export("final_model.pth", self.network, sink)

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """ROC curves, and the maps of the strongest concepts of a few images."""
        folder = self.folder
        found: dict[str, Picture] = {}
        pairs = {"concepts": ("concept_scores", folder.concepts)}
        pairs |= {"tasks": ("task_scores", folder.tasks)} if "tasks" in gathered else {}
        for labels, (scores, names) in pairs.items():
            if curves := draw_rocs(labels, names, gathered[scores], gathered[labels]):
                found[f"roc_{labels}"] = curves
        samples = self._data.validation if split == "validation" else self._data.test
        assert isinstance(samples, XraySamples)  # noqa: S101
        found["concept_maps"] = draw_maps(self._judged, samples, folder.concepts, self._normalize)
        return found

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """AUC of every label on each split, what the prototypes look like, and summary.txt."""
        for split, outputs in gathered.items():
            sink.text(f"reports/auc_{split}.csv", self._auc_table(outputs))
        assert isinstance(self._data.train, XraySamples)  # noqa: S101
        prototypes = draw_prototypes(
            self.network, self._data.train, self.folder.concepts, self._normalize
        )
        sink.picture("prototypes", prototypes)
        sink.text("summary.txt", self._summary(metrics))

    def predict(self, modules: Modules, file: Path, options: PredictOptions) -> Prediction:
        """Diagnoses of an X-ray and their concepts, as a person corrected them."""
        network = modules["csr"]
        assert isinstance(network, CSR)  # noqa: S101
        return predict_file(network, file, options, self.labels(), self.config)

    def example_inputs(self) -> Mapping[str, Tensor]:
        """Two normalised X-rays."""
        side = self.config.data.image_size
        return {"csr": torch.randn(2, 3, side, side)}

    def notes(self) -> Mapping[str, str]:
        """Which files were skipped."""
        bad = self.folder.bad
        return {"bad files": bad.report()} if bad.skipped else {}

    def state_dict(self) -> dict[str, Any]:
        """The best of each stage."""
        return {"best": dict(self._best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self._best = dict(state["best"])

    @cached_property
    def folder(self) -> XrayFolder:
        """The data set's files and labels."""
        root = self.site.data_path
        if root is None:
            raise ConfigurationError(
                "data.path: is not set; write the folder with X-rays and labels, or spec.dataset."
            )
        folder = find_xrays(Path(root), self.config.data, self.site.seed)
        if self.config.training.task_loss == "ce":
            _require_one_diagnosis(folder)
        return folder

    @property
    def _goal(self) -> str:
        stage = self.position.stage
        return stage.name if stage is not None else "task"

    @cached_property
    def _positive_weights(self) -> dict[str, Tensor]:
        """(K,) and (C,), from all training labels: every rank reads the same ones."""
        most, split = self.config.training.largest_pos_weight, self.folder.splits["train"]
        labels = {"concepts": split.concepts, "task": split.tasks}
        return {
            name: losses.positive_weights(torch.tensor(rows).float(), most).to(self.site.device)
            for name, rows in labels.items()
        }

    def _label_losses(self, goal: str, logits: Tensor, labels: Tensor) -> Tensor:
        """(B,), nats: BCE with weights of positives, mean over the labels; or CE."""
        if goal == "task" and self.config.training.task_loss == "ce":
            return F.cross_entropy(logits, labels.argmax(dim=1), reduction="none")
        weights = self._positive_weights[goal]
        return F.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=weights, reduction="none"
        ).mean(dim=1)

    def _prototype_loss(self, similarities: Tensor, concepts: Tensor) -> Tensor:
        chosen, gamma = self.config.training.prototype_loss, self.config.model.gamma
        if chosen.name == "infonce":
            return losses.info_nce(similarities, concepts, gamma, chosen.temperature)
        return losses.soft_triple(similarities, concepts, gamma, chosen.scale, chosen.margin)

    def _normalize(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) uint8 to (B, 3, S, S) float."""
        data = self.config.data
        scaled = (images.float() / 255 - data.mean) / data.std
        return scaled.expand(-1, 3, -1, -1)

    def _export(self, name: str, network: nn.Module, sink: Sink) -> None:
        """A plain state dict, for `CSR(...).load_state_dict(torch.load(file))`."""
        buffer = io.BytesIO()
        state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
        torch.save(state, buffer)
        sink.file(f"models/{name}", buffer.getvalue())

    def _auc_table(self, outputs: Gathered) -> str:
        rows = ["kind,label,auc"]
        kinds = (("concepts", self.folder.concepts), ("tasks", self.folder.tasks))
        for labels, names in kinds:
            areas = metrics.aucs(outputs[f"{labels[:-1]}_scores"], outputs[labels])
            rows += [
                f"{labels[:-1]},{name},{'' if area is None else f'{area:.4f}'}"
                for name, area in zip(names, areas, strict=True)
            ]
        return "\n".join(rows) + "\n"

    def _summary(self, metrics: Mapping[str, float]) -> str:
        folder = self.folder
        sizes = {name: len(split.files) for name, split in folder.splits.items()}
        lines = {
            "experiment": self.config.exp_name,
            "images": str(sizes),
            "backbone": self.config.model.backbone,
            "concepts": ", ".join(folder.concepts),
            "diagnoses": ", ".join(folder.tasks),
        } | {name: f"{value:.4f}" for name, value in sorted(metrics.items())}
        return "".join(f"{name}: {value}\n" for name, value in lines.items())


def _require_one_diagnosis(folder: XrayFolder) -> None:
    for split in folder.splits.values():
        if wrong := losses.images_without_one_label(split.tasks):
            file = split.files[wrong[0]]
            raise ConfigurationError(
                f"training.task_loss: ce needs exactly one diagnosis of each image, and "
                f"'{file.stem}' has {sum(split.tasks[wrong[0]])}; write bce."
            )
