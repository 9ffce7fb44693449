"""X-rays with their concepts, diagnoses and boxes, split into training, validation and test."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.csr.config import XrayDataConfig
from trainyard_trainer.recipes.csr.interaction import cells
from trainyard_trainer.recipes.csr.labels import (
    DIAGNOSES,
    FINDINGS,
    VINBIGDATA,
    LabelTable,
    PixelBox,
    known_columns,
    read_boxes,
    read_labels,
)
from trainyard_trainer.recipes.csr.xray import IMAGE_SUFFIXES, BadXray, read_xray, resize

Boxes = dict[int, list[PixelBox]]
"""By concept."""
BOX_GRID = 16
"""Boxes are compared with maps on a grid of so many cells a side."""


@dataclass(frozen=True, kw_only=True)
class XraySplit:
    """Files of one split with their labels, in a fixed order."""

    files: list[Path]
    concepts: list[tuple[int, ...]]
    tasks: list[tuple[int, ...]]
    boxes: dict[int, Boxes] = field(default_factory=dict)
    """By the image's place, in pixels of its file; empty where the data set has none."""

    def take(self, places: list[int]) -> "XraySplit":
        """These images alone."""
        return XraySplit(
            files=[self.files[place] for place in places],
            concepts=[self.concepts[place] for place in places],
            tasks=[self.tasks[place] for place in places],
            boxes={at: self.boxes[place] for at, place in enumerate(places) if place in self.boxes},
        )


@dataclass(frozen=True, kw_only=True)
class XrayFolder:
    """A whole data set; no image is opened yet, unless bad ones are to be skipped."""

    concepts: tuple[str, ...]
    tasks: tuple[str, ...]
    splits: dict[str, XraySplit]
    """train, validation, test."""
    bad: BadData
    """What was left out."""


def find_xrays(root: Path, config: XrayDataConfig, seed: int) -> XrayFolder:
    """List the data set at `root`. Raises ConfigurationError naming what is absent and where."""
    tables = {
        "train": read_labels(_table_file(root, config.train_csv, "train")),
        "test": read_labels(_table_file(root, config.test_csv, "test")),
    }
    concepts, tasks = choose_labels(tables["train"], config)
    folders = {"train": root / config.train_dir, "test": root / config.test_dir}
    bad = BadData(config.bad_files)
    splits = {}
    for name, table in tables.items():
        readable = _readable_files(table, folders[name], bad, check=config.bad_files == "skip")
        split = _label_files(table, readable, concepts, tasks)
        boxes = read_boxes(table.file.with_name(f"annotations_{name}.csv"))
        splits[name] = _with_boxes(split, boxes, concepts)
    training, validation = hold_out(len(splits["train"].files), config.validation_share, seed)
    whole = splits.pop("train")
    splits |= {"train": whole.take(training), "validation": whole.take(validation)}
    folder = XrayFolder(concepts=concepts, tasks=tasks, splits=splits, bad=bad)
    _refuse_gaps(folder, tables)
    return folder


def choose_labels(
    table: LabelTable, config: XrayDataConfig
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Concepts and diagnoses. Raises ConfigurationError where there are none."""
    wanted = {"all": known_columns(table, FINDINGS), "vinbigdata": VINBIGDATA}
    concepts = wanted[config.concepts] if isinstance(config.concepts, str) else config.concepts
    tasks = known_columns(table, DIAGNOSES) if config.tasks is None else config.tasks
    for key, names in (("concepts", concepts), ("tasks", tasks)):
        if not names:
            raise ConfigurationError(
                f"data.{key}: '{table.file}' has none of VinDr-CXR's columns; name the columns, "
                f"such as [{table.columns[0] if table.columns else 'Cardiomegaly'}]."
            )
        table.select(names, f"data.{key}")
    return concepts, tasks


def hold_out(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Places of training and validation images: the same on every rank and in every attempt."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(share * count)) if count > 1 else 0
    return sorted(order[held:].tolist()), sorted(order[:held].tolist())


class XraySamples:
    """One split as uint8 images with float labels, decoded once where they fit."""

    def __init__(
        self, split: XraySplit, size: int, cache_bytes: int, *, with_boxes: bool = False
    ) -> None:
        self.split, self.size, self.with_boxes = split, size, with_boxes
        self.concepts = torch.tensor(split.concepts, dtype=torch.float32)
        self.tasks = torch.tensor(split.tasks, dtype=torch.float32)
        fits = len(split.files) * size * size <= cache_bytes
        shape = (len(split.files), 1, size, size)
        self._cache = torch.empty(shape, dtype=torch.uint8) if fits else None
        self._stored_sizes: dict[int, tuple[int, int]] = {}
        """(H, W) in the file, of images that were read."""

    def __len__(self) -> int:
        """Images in this split."""
        return len(self.split.files)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """(1, S, S) uint8, (K,) and (C,) of 0 and 1; with boxes (K, 16, 16) bool too."""
        sample = (self._image(index), self.concepts[index], self.tasks[index])
        return (*sample, self._box_mask(index)) if self.with_boxes else sample

    def _image(self, index: int) -> Tensor:
        if self._cache is None:
            return self._read(index)
        if index not in self._stored_sizes:
            self._cache[index] = self._read(index)
        return self._cache[index]

    def _read(self, index: int) -> Tensor:
        grey = read_xray(self.split.files[index])
        self._stored_sizes[index] = (grey.shape[0], grey.shape[1])
        return torch.from_numpy(resize(grey, self.size).copy())[None]

    def _box_mask(self, index: int) -> Tensor:
        height, width = self._stored_sizes[index]
        mask = torch.zeros(self.concepts.shape[1], BOX_GRID, BOX_GRID, dtype=torch.bool)
        for concept, boxes in self.split.boxes.get(index, {}).items():
            for left, top, right, bottom in boxes:
                rows, columns = (
                    cells(low, high, BOX_GRID)
                    for low, high in (
                        (top / height, bottom / height),
                        (left / width, right / width),
                    )
                )
                mask[concept, rows, columns] = True
        return mask


def _table_file(root: Path, named: Path | None, split: str) -> Path:
    if named is not None:
        return root / named
    usual = root / "annotations" / f"image_labels_{split}.csv"
    short = root / f"labels_{split}.csv"
    return short if short.is_file() and not usual.is_file() else usual


def _readable_files(
    table: LabelTable, folder: Path, bad: BadData, *, check: bool
) -> dict[str, Path]:
    """By image. check: whether to read each file, to find out."""
    present = _files_by_name(folder)
    found = {}
    for image in table.rows:
        try:
            file = _file_of(image, folder, present, table)
            if check:
                read_xray(file)
        except BadXray as error:
            bad.meet(str(error))
            continue
        found[image] = file
    return found


def _label_files(
    table: LabelTable, files: dict[str, Path], concepts: tuple[str, ...], tasks: tuple[str, ...]
) -> XraySplit:
    seen = dict(zip(table.rows, table.select(concepts, "data.concepts"), strict=True))
    judged = dict(zip(table.rows, table.select(tasks, "data.tasks"), strict=True))
    return XraySplit(
        files=list(files.values()),
        concepts=[seen[image] for image in files],
        tasks=[judged[image] for image in files],
    )


def _files_by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigurationError(
            f"data: no folder '{folder}'; put the images there, or name it in data.train_dir and "
            "data.test_dir."
        )
    files = {file.name: file for file in sorted(folder.iterdir())}
    images = {name: file for name, file in files.items() if file.suffix.lower() in IMAGE_SUFFIXES}
    return images | {file.stem: file for file in images.values()}


def _file_of(image: str, folder: Path, present: dict[str, Path], table: LabelTable) -> Path:
    if image in present:
        return present[image]
    raise BadXray(
        f"data: '{table.file}' names image '{image}', but '{folder}' holds no {image}.dicom; put "
        "it there, take the row out, or write data.bad_files: skip."
    )


def _with_boxes(
    split: XraySplit, boxes: dict[tuple[str, str], list[PixelBox]], concepts: tuple[str, ...]
) -> XraySplit:
    found: dict[int, Boxes] = {}
    for place, file in enumerate(split.files):
        own = {
            number: boxes[file.stem, name]
            for number, name in enumerate(concepts)
            if (file.stem, name) in boxes
        }
        if own:
            found[place] = own
    return replace(split, boxes=found)


def _refuse_gaps(folder: XrayFolder, tables: dict[str, LabelTable]) -> None:
    for name, split in folder.splits.items():
        if not split.files:
            table = tables.get(name, tables["train"])
            raise ConfigurationError(
                f"data: split '{name}' has no images; '{table.file}' needs rows whose images exist."
            )
