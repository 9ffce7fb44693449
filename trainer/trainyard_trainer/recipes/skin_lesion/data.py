"""Samples of HAM10000, for the recipe and for use on their own.

dm = HAM10000DataModule("data/ham10000", batch_size=4)
dm.setup("fit")
images, labels = next(iter(dm.train_dataloader()))    # (4, 3, 224, 224) float32, (4,) int64
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.recipes.classification.augmentation import augment_image
from trainyard_trainer.recipes.classification.classifier import mean_and_std
from trainyard_trainer.recipes.classification.config import AugmentationConfig
from trainyard_trainer.recipes.classification.data import ImageBatches, ImageSamples, ImageSplit
from trainyard_trainer.recipes.skin_lesion import lesions
from trainyard_trainer.recipes.skin_lesion.config import SkinDataConfig
from trainyard_trainer.sampler import ShuffledSampler, sample_generator

Augment = Callable[[Any, np.random.Generator], Any]


@dataclass(frozen=True, kw_only=True)
class SkinData:
    """The splits of a data set; no image is opened yet."""

    classes: list[str]
    splits: dict[str, ImageSplit]
    skipped: list[str]
    """A sentence for each row that was left out."""


def find_splits(root: Path, config: SkinDataConfig, num_classes: int) -> SkinData:
    """Read the table and divide it. Raises ConfigurationError naming what is wrong and where."""
    bad = BadData(config.on_bad)
    photos = lesions.subsample(
        lesions.read_photos(root, bad),
        config.subsample_percentage,
        config.split_seed,
        stratified=config.stratified_sampling,
    )
    split_of = lesions.split_lesions(
        photos, config.validation_share, config.test_share, config.split_seed
    )
    if config.folds:
        split_of |= lesions.split_fold(
            photos, split_of, config.fold, config.folds, config.split_seed
        )
    classes = lesions.class_names(num_classes)
    splits = {}
    for name in lesions.SPLITS:
        mine = [photo for photo in photos if split_of[photo.lesion] == name]
        labels = [lesions.class_of(photo, num_classes) for photo in mine]
        splits[name] = ImageSplit(name=name, files=[photo.file for photo in mine], labels=labels)
    counts = {name: Counter(split.labels) for name, split in splits.items()}
    lesions.refuse_gaps(counts, classes)
    return SkinData(classes=classes, splits=splits, skipped=bad.skipped)


def build_augment(config: SkinDataConfig) -> Augment | None:
    """What changes training images; None where nothing does."""
    if not config.augment:
        return None
    changes = AugmentationConfig(
        horizontal_flip=config.horizontal_flip,
        vertical_flip=config.vertical_flip,
        rotation_degrees=config.rotation_degrees,
        brightness=config.color_jitter,
        contrast=config.color_jitter,
    )
    return partial(_augment, changes, config.color_jitter)


def build_samples(split: ImageSplit, config: SkinDataConfig, *, augmented: bool) -> ImageSamples:
    """Images of a split as (3, S, S) uint8, with their class."""
    kind = ImageSamples if augmented else ImageBatches
    return kind(split, config.image_size, config.cache_mebibytes * 2**20)


def saturate(image: Tensor, factor: float) -> Tensor:
    """Away from grey by a factor, towards it below 1. image: (3, H, W) uint8; returns the same."""
    colour = image.float()
    grey = colour.mul(torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)).sum(0, keepdim=True)
    return (grey + factor * (colour - grey)).round().clamp(0, 255).to(torch.uint8)


def _augment(
    changes: AugmentationConfig,
    jitter: float,
    sample: tuple[Tensor, Tensor],
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    image, target = sample
    factor = 1 + jitter * (2 * rng.random() - 1)
    return saturate(augment_image(image, changes, rng), factor), target


class LimitedSampler(ShuffledSampler):
    """An epoch that ends after some batches; which samples those are changes with the epoch."""

    def __init__(self, size: int, seed: int, limit: int) -> None:
        """limit: samples in an epoch, at most size."""
        super().__init__(size, seed)
        self._all, self.size = size, min(limit, size)

    def order(self, epoch: int) -> Tensor:
        """The first of a permutation of all."""
        limit, self.size = self.size, self._all
        found = super().order(epoch)[:limit]
        self.size = limit
        return found


class HAM10000DataModule:
    """The recipe's data without the recipe: loaders of normalised images and labels."""

    def __init__(
        self,
        data_dir: str | Path,
        batch_size: int = 32,
        num_workers: int = 0,
        num_classes: int = 2,
        seed: int = 42,
        **options: Any,
    ) -> None:
        """options: of `data`, such as image_size or augment; see SkinDataConfig."""
        self.config = SkinDataConfig(path=Path(data_dir), **options)
        self._root, self._num_classes, self._seed = Path(data_dir), num_classes, seed
        self._batch_size, self._num_workers = batch_size, num_workers
        self._found: SkinData | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read the table. stage: fit, validate, test or None; all splits are found at once."""
        self._found = find_splits(self._root, self.config, self._num_classes)

    @property
    def classes(self) -> list[str]:
        """In the order of their indices."""
        return self._splits().classes

    def train_dataloader(self) -> "DataLoader[Any]":
        """Shuffled, and augmented where the options say so."""
        return self._loader("train", build_augment(self.config), shuffle=True)

    def val_dataloader(self) -> "DataLoader[Any]":
        """In a fixed order."""
        return self._loader("val", None, shuffle=False)

    def test_dataloader(self) -> "DataLoader[Any]":
        """In a fixed order."""
        return self._loader("test", None, shuffle=False)

    def _splits(self) -> SkinData:
        if self._found is None:
            self.setup()
        assert self._found is not None  # noqa: S101
        return self._found

    def _loader(self, name: str, augment: Augment | None, *, shuffle: bool) -> "DataLoader[Any]":
        samples = build_samples(self._splits().splits[name], self.config, augmented=True)
        return DataLoader(
            _Normalised(samples, augment, self.config, self._seed),  # type: ignore[arg-type]
            batch_size=self._batch_size,
            shuffle=shuffle,
            num_workers=self._num_workers,
        )


class _Normalised:
    """Samples as the network takes them; each call of a sample augments it anew."""

    def __init__(
        self, samples: ImageSamples, augment: Augment | None, config: SkinDataConfig, seed: int
    ) -> None:
        self._samples, self._augment, self._seed = samples, augment, seed
        self._mean, self._std = mean_and_std(config, torch.device("cpu"))
        self._reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self._samples[index]
        if self._augment is not None:
            rng = sample_generator(self._seed, self._reads[index], index)
            sample = self._augment(sample, rng)
            self._reads[index] += 1
        image, label = sample
        return (image.float() / 255 - self._mean) / self._std, label
