"""Image folders: which files belong to a split, and their pixels, decoded once where they fit.

Two layouts are read. `<dir>/{train,val,test}/<class>/*` is one fixed split; `<dir>/raw/<class>/*`
goes with the index files of `splits.py`. Classes are the folders' names, sorted.
"""

import errno
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.image_files import IMAGE_SUFFIXES, problem_of
from trainyard_trainer.recipes.classification.splits import (
    RAW_DIRECTORY,
    SPLITS_DIRECTORY,
    count_folds,
    partition_folds,
    read_index_file,
)

Image.preinit()  # Decoders: before the ranks are forked, not by each of them.

SPLITS = ("train", "val", "test")
FOLDS_SEED = 42
"""Of the folds of a folder that has none: the same for every run, so that they make a partition."""


@dataclass(frozen=True, kw_only=True)
class ImageSplit:
    """Files of one split with their classes, in a fixed order."""

    name: str
    files: list[Path]
    labels: list[int]

    def counts(self, classes: int) -> list[int]:
        """Images of each class."""
        counted = Counter(self.labels)
        return [counted[label] for label in range(classes)]


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """A whole data set on disk; nothing is opened yet."""

    classes: list[str]
    splits: dict[str, ImageSplit]


def find_images(
    root: Path, fold: int, bad: BadData | None = None, *, folds: int | None = None
) -> ImageFolder:
    """List the data set at `root`. Raises ConfigurationError naming what is absent and where.

    folds: how many there are; None: as many as index files say, or the one split that is there.
    bad: takes note of images whose files are not whole, which are left out; None: files are opened
    only when an image is read, and one that is not whole then stops the run.
    """
    if (root / RAW_DIRECTORY).is_dir():
        folder = _find_indexed(root, fold, folds)
    elif (root / SPLITS[0]).is_dir():
        folder = _divide(_find_folders(root), root, fold, folds)
    else:
        raise ConfigurationError(
            f"data.path: '{root}' holds neither {SPLITS[0]}/ nor {RAW_DIRECTORY}/; put images "
            f"at {SPLITS[0]}/<class>/ beside val/ and test/, or at {RAW_DIRECTORY}/<class>/ with "
            "index files in splits/."
        )
    if bad is not None:
        readable = {name: _readable(split, bad) for name, split in folder.splits.items()}
        folder = ImageFolder(classes=folder.classes, splits=readable)
    _refuse_gaps(folder, root)
    return folder


class ImageSamples:
    """One split, image by image, as augmentation wants it."""

    def __init__(self, split: ImageSplit, size: int, cache_bytes: int) -> None:
        self.split = split
        self.size = size
        self.labels = torch.tensor(split.labels, dtype=torch.int64)
        shape = (len(split.files), 3, size, size)
        fits = math.prod(shape) <= cache_bytes
        self._cache = torch.empty(shape, dtype=torch.uint8) if fits else None
        self._is_cached = [False] * len(split.files)

    def __len__(self) -> int:
        """Images in this split."""
        return len(self.split.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(3, S, S) uint8, and its class index."""
        return self._image(index), self.labels[index]

    def _image(self, index: int) -> Tensor:
        if self._cache is None:
            return load_image(self.split.files[index], self.size)
        if not self._is_cached[index]:
            self._cache[index] = load_image(self.split.files[index], self.size)
            self._is_cached[index] = True
        return self._cache[index]


class ImageBatches(ImageSamples):
    """One split, a batch at a time: from memory that costs next to nothing."""

    def batch(self, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) uint8, and (B,) class indices; the same in every epoch."""
        labels = self.labels[indices]
        if self._cache is None:
            return torch.stack([self._image(index) for index in indices.tolist()]), labels
        for index in indices.tolist():
            if not self._is_cached[index]:
                self._image(index)
        return self._cache[indices], labels


def load_image(file: Path, size: int) -> Tensor:
    """Decode, scale the shorter side to `size`, crop the centre: (3, size, size) uint8.

    Raises ConfigurationError naming the file where it is no image.
    """
    try:
        with Image.open(file) as image:
            colour = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENOENT):
            raise  # The disk's fault, not the file's: another attempt may read it.
        raise ConfigurationError(
            f"data: cannot read image '{file}' ({error}); replace it or take it out."
        ) from error
    square = ImageOps.fit(colour, (size, size), method=Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _find_folders(root: Path) -> ImageFolder:
    classes = _class_names(root / SPLITS[0])
    splits = {}
    for name in SPLITS:
        extra = set(_class_names(root / name)) - set(classes)
        if extra:
            raise ConfigurationError(
                f"data: {root / name} has class '{min(extra)}', which {SPLITS[0]}/ has not; add "
                "its training images, or take it out."
            )
        pairs = [(file, classes.index(file.parent.name)) for file in _image_files(root / name)]
        splits[name] = _build_split(name, pairs)
    return ImageFolder(classes=classes, splits=splits)


def _divide(folder: ImageFolder, root: Path, fold: int, folds: int | None) -> ImageFolder:
    """Stratified folds of what train/ and val/ hold; test/ is the same for all of them."""
    if folds is None:
        if fold:
            raise ConfigurationError(
                f"data.fold: is {fold}, but '{root}' has the one split of train/ and val/; set "
                "data.folds to have both divided into folds."
            )
        return folder
    both = [folder.splits["train"], folder.splits["val"]]
    pairs = sorted(
        (file, label)
        for split in both
        for file, label in zip(split.files, split.labels, strict=True)
    )
    labels = [folder.classes[label] for _, label in pairs]
    chosen = partition_folds(labels, folds, 0.0, FOLDS_SEED).folds[fold]
    splits = {
        "train": _build_split("train", [pairs[index] for index in chosen.train]),
        "val": _build_split("val", [pairs[index] for index in chosen.val]),
        "test": folder.splits["test"],
    }
    return ImageFolder(classes=folder.classes, splits=splits)


def _find_indexed(root: Path, fold: int, folds: int | None) -> ImageFolder:
    if folds is not None and (listed := count_folds(root)) not in (0, folds):
        raise ConfigurationError(
            f"data.folds: is {folds}, but '{root / SPLITS_DIRECTORY}' lists {listed} folds; write "
            f"{listed}, or generate splits again."
        )
    classes = _class_names(root / RAW_DIRECTORY)
    names = {"train": f"fold_{fold}_train", "val": f"fold_{fold}_val", "test": "test"}
    splits = {}
    for split, list_name in names.items():
        pairs = []
        for line in read_index_file(root, list_name):
            file = root / RAW_DIRECTORY / line
            if file.parent.name not in classes:
                raise ConfigurationError(
                    f"data: {list_name}.txt names '{line}', but {RAW_DIRECTORY}/ has no class "
                    f"'{file.parent.name}'; generate splits again."
                )
            pairs.append((file, classes.index(file.parent.name)))
        splits[split] = _build_split(split, pairs)
    return ImageFolder(classes=classes, splits=splits)


def _readable(split: ImageSplit, bad: BadData) -> ImageSplit:
    pairs = []
    for file, label in zip(split.files, split.labels, strict=True):
        if problem := problem_of(file):
            bad.meet(f"data: {problem}")
        else:
            pairs.append((file, label))
    return _build_split(split.name, pairs)


def _build_split(name: str, pairs: list[tuple[Path, int]]) -> ImageSplit:
    return ImageSplit(
        name=name, files=[file for file, _ in pairs], labels=[label for _, label in pairs]
    )


def _class_names(directory: Path) -> list[str]:
    if not directory.is_dir():
        raise ConfigurationError(
            f"data: no folder '{directory}'; it holds a folder of images for each class."
        )
    return sorted(child.name for child in directory.iterdir() if child.is_dir())


def _image_files(directory: Path) -> Iterator[Path]:
    """Every image at <class>/<file>, sorted, so that indices mean the same on every node."""
    for file in sorted(directory.glob("*/*")):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file


def _refuse_gaps(folder: ImageFolder, root: Path) -> None:
    """Every split needs an image of every class: scores of an absent class mean nothing."""
    if len(folder.classes) < 2:
        raise ConfigurationError(
            f"data: '{root}' has {len(folder.classes)} class folders; at least 2 are needed."
        )
    for split in folder.splits.values():
        counts = split.counts(len(folder.classes))
        if not sum(counts):
            raise ConfigurationError(f"data: split '{split.name}' of '{root}' has no images.")
        if 0 in counts:
            absent = folder.classes[counts.index(0)]
            raise ConfigurationError(
                f"data: split '{split.name}' of '{root}' has no image of class '{absent}'; add "
                "one, generate splits with fewer folds, or take the class out."
            )
