"""Recipe `mar-gan`: discriminator, then generator, in one step; judged by validation PSNR."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.console import log
from trainyard_trainer.errors import ConfigurationError
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
from trainyard_trainer.recipes.mar_gan import scores
from trainyard_trainer.recipes.mar_gan.config import Config
from trainyard_trainer.recipes.mar_gan.data import (
    Cache,
    EvaluationBatch,
    Reading,
    TrainPatches,
    WholeImages,
)
from trainyard_trainer.recipes.mar_gan.layouts import Listing, hold_out, list_split
from trainyard_trainer.recipes.mar_gan.losses import dilate
from trainyard_trainer.recipes.mar_gan.model import (
    build_discriminator,
    build_generator,
    load_pretrained,
)
from trainyard_trainer.recipes.mar_gan.objective import Objective
from trainyard_trainer.recipes.mar_gan.predict import PredictOptions, correct_file
from trainyard_trainer.recipes.mar_gan.projector import ParallelBeam
from trainyard_trainer.recipes.mar_gan.watch import Watch
from trainyard_trainer.registry import recipe

TTUR = 2.0
"""The discriminator's learning rate over the generator's, unless it has one of its own."""


@recipe("mar-gan")
class MarGan(Recipe[Config]):
    """CT images with metal artefacts in, without them out."""

    config_class = Config
    best = Metric("val_psnr", "max")
    final_splits = ("validation", "test")
    initial_weights = ("model.pretrained",)
    prediction_options = PredictOptions

    def build_modules(self) -> dict[str, nn.Module]:
        """`generator`, and `discriminator` where a part of the loss needs it."""
        self.watch = Watch()
        model = self.config.model
        modules: dict[str, nn.Module] = {"generator": build_generator(model.generator)}
        if self.config.needs_discriminator:
            side = self.config.data.patch_size
            modules["discriminator"] = build_discriminator(model.discriminator, side)
        if model.pretrained is not None:
            load_pretrained(modules, model.pretrained)
        return modules

    def stages(self) -> list[Stage]:
        """One; batch_size times accumulation_steps patches are one step."""
        training = self.config.training
        size = training.batch_size * training.accumulation_steps
        return [Stage(name="train", epochs=training.epochs, batch_size=size)]

    def build_data(self, stage: Stage) -> Data:
        """Patches of some patients, whole images of others, whole images to test."""
        data, seed = self.config.data, self.config.training.seed
        train, validation = hold_out(self.listings["train"].scenes, data.validation_share, seed)
        reading = Reading(cache=Cache(data.cache_mebibytes * 2**20), bad=self._bad)
        threshold = self.config.training.metal_aware.threshold
        return Data(
            train=TrainPatches(
                train,
                reading,
                side=data.patch_size,
                per_slice=data.artifacts_per_slice,
                seed=seed,
            ),
            validation=WholeImages(
                validation,
                reading,
                per_slice=data.validation_artifacts_per_slice,
                threshold=threshold,
            ),
            test=WholeImages(
                self.listings["test"].scenes,
                reading,
                per_slice=data.test_artifacts_per_slice,
                threshold=threshold,
            ),
        )

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        """`discriminator`, which is stepped first, and `generator`."""
        training = self.config.training
        given = training.optimizer
        rate = given.generator.lr or training.learning_rate
        rates = {"discriminator": given.discriminator.lr or TTUR * rate, "generator": rate}
        found = {}
        for name in (name for name in rates if name in modules):
            betas = getattr(given, name).betas or given.betas
            parameters = [one for one in modules[name].parameters() if one.requires_grad]
            settings = given.model_copy(update={"betas": betas})
            found[name] = build_optimizer(parameters, settings, rates[name])
        return found

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        """The discriminator's on a detached image, then the generator's, with the stepped one."""
        artefact, target, skipped = batch
        fake = modules["generator"](artefact)
        judge = modules.get("discriminator")
        if judge is not None:
            loss = self.objective.discriminator(
                judge(artefact, target), judge(artefact, fake.detach())
            )
            self.watch.add("discriminator", loss)
            yield Loss("discriminator", loss)
        parts = self.objective.image_parts(artefact, fake.float(), target)
        if judge is not None:
            with torch.no_grad():
                real = judge(artefact, target)
            parts |= self.objective.adversarial_parts(real, judge(artefact, fake))
        if "physics" in parts:
            self.watch.add("physics", parts["physics"])
        metrics = {f"{name}_loss": part for name, part in parts.items()}
        if self.config.data.on_bad_file == "skip":
            metrics["bad_files"] = skipped.mean()
        yield Loss("generator", self.objective.total(parts), metrics)

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        """Scores of each image, as it came, interpolated and as the generator leaves it."""
        found: EvaluationBatch = batch
        fake = modules["generator"](found.artefact).float().clamp(-1, 1)
        radius = self.config.training.metal_aware.dilation_radius
        with torch.autocast(fake.device.type, enabled=False):
            rows = scores.score(found, fake, dilate(found.metal, radius))
        most = self.config.training.pictures
        return rows | {"picture": scores.pictures_of(found, fake, most)}

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        """Means over images; see scores.py. Once an epoch the training losses are judged, too."""
        if split == "validation":
            for warning in self.watch.end_epoch(self.position.run_epoch + 1, self._scales):
                log.warning("%s", warning)
        return scores.average(gathered)

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        """Input, interpolated input, output, target and error of some images."""
        grid = scores.draw_grid(gathered["picture"])
        return {} if grid is None else {"images": grid}

    def predict(self, modules: Modules, file: Path, options: PredictOptions) -> Prediction:
        """The image as the generator leaves it."""
        threshold = self.config.training.metal_aware.threshold
        return correct_file(modules["generator"], file, options, threshold)

    def example_inputs(self) -> Mapping[str, Tensor]:
        """Two patches for the generator; the discriminator is of no use after training."""
        side = self.config.data.patch_size
        return {"generator": torch.rand(2, 1, side, side) * 2 - 1}

    def notes(self) -> Mapping[str, str]:
        """Warnings of the run, and files that were left out."""
        found = {f"warning {n}": text for n, text in enumerate(self.watch.warnings, start=1)}
        unpaired = sum(listing.unpaired for listing in self.listings.values())
        if unpaired:
            found["unpaired files"] = str(unpaired)
        if self._bad.skipped:
            found["bad files"] = self._bad.report()
        return found

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        """Scores of every image, and a table of their means, of each split."""
        for split, outputs in gathered.items():
            samples = self._samples(split)
            names = [samples.name(index) for index in range(len(samples))]
            sink.file(f"reports/scores_{split}.csv", scores.table(outputs, names).encode())
            sink.text(f"reports/summary_{split}.txt", scores.summary(outputs))

    def state_dict(self) -> dict[str, Any]:
        """What the watch has seen."""
        return {"watch": self.watch.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self.watch.load_state_dict(state["watch"])

    @cached_property
    def objective(self) -> Objective:
        """What is minimised."""
        projector = ParallelBeam(self.config.training.projection_angles).to(self.site.device)
        return Objective(self.config.training, projector)

    @cached_property
    def _bad(self) -> BadData:
        return BadData(self.config.data.on_bad_file)

    @cached_property
    def listings(self) -> dict[str, Listing]:
        """What was found on disk, by split; nothing is opened."""
        skips = self.config.data.on_bad_file == "skip"
        train, test = self._places()
        return {
            "train": list_split(train, "train", skips=skips),
            "test": list_split(test, "test", skips=skips),
        }

    def _places(self) -> tuple[Path, Path]:
        data = self.config.data
        train = data.train_path or self.site.data_path
        if train is None:
            raise ConfigurationError(
                "data.path: is not set; write the folder with the images, data.train_path, or "
                "spec.dataset."
            )
        beside = train.parent / "test"
        is_split = train.name == "train" and beside.is_dir()
        return train, data.test_path or (beside if is_split else train)

    def _samples(self, split: str) -> WholeImages:
        found = getattr(self.build_data(self.stages()[0]), split)
        assert isinstance(found, WholeImages)  # noqa: S101
        return found

    @property
    def _scales(self) -> int:
        network = self.config.model.discriminator
        return network.num_scales if network.type == "MultiScalePatchGAN" else 1
