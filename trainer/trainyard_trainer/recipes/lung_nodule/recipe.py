"""Recipe `lung-nodule`: patches to train on, whole scans to be judged on by FROC."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
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
    Site,
    Stage,
)
from trainyard_trainer.recipes.lung_nodule import metrics as scores
from trainyard_trainer.recipes.lung_nodule.augmentation import Cutter
from trainyard_trainer.recipes.lung_nodule.baseline import find_blobs
from trainyard_trainer.recipes.lung_nodule.candidates import Candidates
from trainyard_trainer.recipes.lung_nodule.config import LOSSES, Config
from trainyard_trainer.recipes.lung_nodule.data import Patches, WholeScan, WholeScans, collate
from trainyard_trainer.recipes.lung_nodule.inference import Reader
from trainyard_trainer.recipes.lung_nodule.model import build_network, count_parameters
from trainyard_trainer.recipes.lung_nodule.objective import Objective
from trainyard_trainer.recipes.lung_nodule.pictures import froc_picture, sample_grid
from trainyard_trainer.recipes.lung_nodule.predict import PredictOptions, predict_scan
from trainyard_trainer.recipes.lung_nodule.pretrained import load_pretrained
from trainyard_trainer.recipes.lung_nodule.report import csv_of, froc_table, summary
from trainyard_trainer.recipes.lung_nodule.scans import Scan, find_scans, places_of
from trainyard_trainer.recipes.lung_nodule.stages import Continued, plan
from trainyard_trainer.recipes.lung_nodule.volumes import VolumeCache
from trainyard_trainer.registry import recipe
from trainyard_trainer.schedule import Schedule, Shape, build_schedule
from trainyard_trainer.wandb_run import WandbRun

SHORT_NAMES = {"train": "train", "validation": "val", "test": "test"}


@recipe("lung-nodule")
class LungNodule(Recipe[Config]):
    """Volumes in, candidates with size and malignancy out."""

    config_class = Config
    final_splits = ("validation", "test")
    initial_weights = ("training.pretrained",)
    prediction_options = PredictOptions

    def __init__(self, config: Config, site: Site) -> None:
        super().__init__(config, site)
        name = config.validation.save_best_metric
        self.best = Metric(f"val_{name}", "min" if name == "loss" else "max")
        self.bad = BadData(config.data.on_bad)
        self._blobs: dict[str, Candidates] = {}
        self._wandb = WandbRun(config.logging.wandb, config, site, "logging.wandb")

    def build_modules(self) -> dict[str, nn.Module]:
        """`model` alone, with pretrained weights where configured."""
        network = build_network(self.config.model, heads=self.config.training.loss.has_heads)
        if self.config.training.pretrained is not None:
            load_pretrained(network, self._below(self.config.training.pretrained.checkpoint))
        self._network = network
        self._wandb.watch(network)
        return {"model": network}

    def stages(self) -> list[Stage]:
        """See stages.py."""
        return plan(self.config, self._unfrozen())

    def build_data(self, stage: Stage) -> Data:
        """Patches of the stage's size, cut out with its augmentation; whole scans to be judged."""
        data = self.config.data
        cutter = Cutter(
            self._cache,
            stage.options["patch_size"],
            data.spacing_mm,
            data.windows,
            self.config.augmentation,
        )
        train = Patches(
            self.scans["train"], stage.options["min_diameter"], data.random_patches_per_nodule
        )
        if len(train) == 0:
            raise ConfigurationError(
                f"stage '{stage.name}': no nodule has {stage.options['min_diameter']:g} mm or more "
                "and data.random_patches_per_nodule is 0; lower min_diameter."
            )
        return Data(
            train=train,
            validation=self._whole("val"),
            test=self._whole("test"),
            collate=collate,
            augment=cutter,
        )

    def begin_stage(self, stage: Stage, data: Data) -> None:
        """A frozen encoder keeps its running statistics too."""
        if stage.options.get("is_frozen"):
            encoder: nn.Module = self._network.encoder  # type: ignore[assignment]
            encoder.eval()

    def build_schedules(
        self, stage: Stage, optimizers: Mapping[str, Optimizer], steps_per_epoch: int
    ) -> dict[str, Schedule]:
        """One schedule over all stages; a plateau begins anew with each."""
        training = self.config.training
        if training.schedule.name == "plateau":
            mode = training.schedule.mode if training.schedule.metric else self.best.mode
            rate, epochs = training.learning_rate, stage.epochs
            plateau = build_schedule(training.schedule, rate, epochs, steps_per_epoch, mode)
            return dict.fromkeys(optimizers, plateau)
        epochs = stage.options["total_epochs"]
        if training.schedule.name == "cosine":
            epochs = training.schedule.cosine_epochs or epochs
        whole = Shape(training.schedule, training.learning_rate, epochs, steps_per_epoch)
        first = stage.options["first_epoch"]
        return {name: Continued(whole, first, steps_per_epoch) for name in optimizers}

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """The configured loss, its components beside it."""
        values = self._objective(modules["model"](batch.image), batch)
        parts = {name: value.mean() for name, value in values.items()}
        yield Loss("main", parts.pop("loss"), parts)

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        """Losses, overlap and candidates of whole scans; see `Reader.judged`."""
        reader = Reader(self.config, self._patch_size())
        found = [reader.judged(modules["model"], one, self._objective) for one in batch]
        if self.config.validation.blob_baseline:
            found = [
                outputs | {"blobs": self._find_blobs(one)}
                for outputs, one in zip(found, batch, strict=True)
            ]
        columns = {name: [one[name] for one in found] for name in found[0]}
        return {
            name: torch.stack(values) if isinstance(values[0], Tensor) else values
            for name, values in columns.items()
        }

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """The losses, what validation.metrics names, and for the test a 95 % interval."""
        judged = scores.judge(gathered)
        wanted = self.config.validation.metrics
        every = {
            "detection_dice": lambda: scores.detection_dice(gathered["overlap"]),
            "froc_score": lambda: judged.curve.score,
            "center_accuracy": lambda: scores.center_accuracy(judged),
            "size_accuracy": lambda: scores.size_accuracy(judged),
        }
        needed = {*wanted, self.config.validation.save_best_metric} & set(every)
        if not self.config.training.loss.has_heads:
            needed -= {"size_accuracy"}
        found = {name: gathered[name].mean().item() for name in LOSSES if name in gathered}
        found |= {name: every[name]() for name in every if name in needed}
        if "blobs" in gathered:
            found["baseline_froc_score"] = self._judge_blobs(gathered).curve.score
        draws = self.config.inference.bootstraps
        if split == "test" and draws and "froc_score" in needed:
            low, high = scores.score_interval(judged, draws)
            found |= {"froc_score_low": low, "froc_score_high": high}
        return found

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """The FROC curve, with the baseline's, and slices of a few scans."""
        curves = {"network": scores.judge(gathered).curve}
        if "blobs" in gathered:
            curves["blob detector"] = self._judge_blobs(gathered).curve
        title = f"FROC, {len(gathered['uid'])} {SHORT_NAMES[split]} scans"
        shown = sample_grid([one for one in gathered["shown"] if one is not None])
        found: dict[str, Picture] = {"froc": froc_picture(curves, title)}
        return found | ({} if shown is None else {"samples": shown})

    def report(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """To Weights & Biases, where configured."""
        self._wandb.log(self.position, metrics)

    def predict(self, modules: Modules, file: Path, options: PredictOptions) -> Prediction:
        """Candidates in a volume."""
        return predict_scan(self.config, self._patch_size(), modules["model"], file, options)

    def example_inputs(self) -> Mapping[str, Tensor]:
        """Two patches."""
        channels = self.config.model.in_channels
        return {"model": torch.randn(2, channels, *self._patch_size())}

    def notes(self) -> Mapping[str, str]:
        """What was left out of the data."""
        return {"unusable data": self.bad.report()}

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Candidates and the FROC curve of each split as CSV, and summary.txt."""
        for split, outputs in gathered.items():
            name = SHORT_NAMES[split]
            table = csv_of(outputs["uid"], outputs["candidates"])
            sink.file(f"reports/candidates_{name}.csv", table.encode())
            curve = froc_table(scores.judge(outputs).curve)
            sink.file(f"reports/froc_{name}.csv", curve.encode())
        sizes = {split: len(scans) for split, scans in self.scans.items()}
        facts = {"parameters": count_parameters(self._network), "steps": self.position.step}
        sink.text("summary.txt", summary(sizes, facts, metrics) + self.bad.report())
        self._wandb.finish(metrics, sink)

    @cached_property
    def scans(self) -> dict[str, list[Scan]]:
        """Every split's scans, from their headers."""
        return find_scans(places_of(self.config.data, self.site.data_path), self.bad)

    @cached_property
    def _cache(self) -> VolumeCache:
        data = self.config.data
        return VolumeCache(data.cache_mebibytes * 2**20, data.spacing_mm)

    @cached_property
    def _objective(self) -> Objective:
        training = self.config.training
        return Objective(training.loss, training.hard_negative_mining)

    def _whole(self, split: str) -> WholeScans | None:
        scans: Sequence[Scan] | None = self.scans.get(split)
        if scans is None:
            return None
        data = self.config.data
        return WholeScans(scans, self._cache, data.spacing_mm, data.windows)

    def _below(self, path: Path) -> Path:
        """A path of the configuration, below the data where it lies there."""
        root = self.site.data_path
        return path if root is None or path.exists() else Path(root) / path

    def _patch_size(self) -> tuple[int, int, int]:
        """The stage's, or at the end of the run the last one's."""
        stage = self.position.stage
        size: tuple[int, int, int] = (
            stage.options["patch_size"] if stage is not None else self.config.data.patch_size
        )
        return size

    def _unfrozen(self) -> tuple[str, ...]:
        """All parts of the network but the encoder. Raises ConfigurationError without one."""
        pretrained = self.config.training.pretrained
        children = dict(self._network.named_children())
        if pretrained is not None and pretrained.freeze_encoder and "encoder" not in children:
            raise ConfigurationError(
                f"training.pretrained.freeze_encoder: '{self.config.model.class_path}' has no "
                "submodule 'encoder'; call it so, or leave freeze_encoder out."
            )
        return tuple(
            f"model.{name}"
            for name, part in children.items()
            if name != "encoder" and any(True for _ in part.parameters())
        )

    def _find_blobs(self, sample: WholeScan) -> Candidates:
        """Once a scan: it never changes."""
        uid = sample.scan.uid
        if uid not in self._blobs:
            low, high = self.config.data.windows[0]
            voxels = sample.image[0].cpu().numpy() * np.float32(high - low) + np.float32(low)
            most = self.config.inference.most_candidates
            self._blobs[uid] = find_blobs(voxels, sample.grid, most)
        return self._blobs[uid]

    def _judge_blobs(self, gathered: Gathered) -> scores.Judged:
        return scores.judge({**gathered, "candidates": gathered["blobs"]})
