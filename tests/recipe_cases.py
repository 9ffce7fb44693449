"""Each recipe at its smallest: data in its layout, a configuration of seconds, and a new file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nodule_scans import SMALL as NODULES
from nodule_scans import write_luna, write_scan
from skin_images import write_set
from unit.mar_gan.slices import MODEL, write_syndeeplesion

from trainyard_trainer.recipes.classification.synth import write_shapes
from trainyard_trainer.recipes.csr.synth import write_chests

Config = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recipe."""

    recipe: str
    config: Config
    write: Callable[[Path], object]
    """Its data set, into a folder."""
    new_file: Callable[[Path, Path], Path]
    """A file to predict, of the data set's folder or written into the second one."""
    group_norm: bool = False
    """Whether the standard runs replace batch normalisation, whose statistics are of a rank's own
    samples, where no key of the configuration does so."""
    tolerance: float = 1e-4
    """Of the loss between one rank and two, relative: sums are taken in another order."""


def new_photograph(data: Path, folder: Path) -> Path:
    return next((data / "images").glob("*.jpg"))


def new_shape(data: Path, folder: Path) -> Path:
    return next((data / "raw" / "disc").glob("*.png"))


def new_chest(data: Path, folder: Path) -> Path:
    return next((data / "test").iterdir())


def new_scan(data: Path, folder: Path) -> Path:
    return write_scan(folder, "new", [(6, 8, 8)])


def new_slice(data: Path, folder: Path) -> Path:
    pixels = np.random.default_rng(3).uniform(-900, 900, (40, 56)).astype(np.float32)
    pixels[10:14, 20:26] = 2000
    np.save(folder / "new.npy", pixels)
    return folder / "new.npy"


CASES = (
    Case(
        recipe="classification",
        write=lambda folder: write_shapes(folder, images_per_class=20, size=24, folds=3),
        new_file=new_shape,
        group_norm=True,
        config={
            "training": {"epochs": 2, "batch_size": 8},
            "data": {"image_size": 24, "augmentation": {"rotation_degrees": 20}},
        },
    ),
    Case(
        recipe="skin-lesion",
        write=lambda folder: write_set(folder, lesions=20),
        new_file=new_photograph,
        tolerance=2e-4,
        config={
            "model": {
                "dropout_rate": 0.0,
                "norm": "group",
                "architecture": {"conv_blocks": 2, "channels": [8, 16], "classifier_hidden": 16},
            },
            "training": {"epochs": 2, "batch_size": 8},
            "data": {"image_size": 24, "augment": True},
        },
    ),
    Case(
        recipe="mar-gan",
        write=write_syndeeplesion,
        new_file=new_slice,
        tolerance=2e-3,
        config={
            "model": MODEL,
            "training": {"epochs": 2, "batch_size": 2, "projection_angles": 12},
            "data": {"patch_size": 32, "artifacts_per_slice": 3},
        },
    ),
    Case(
        recipe="lung-nodule",
        write=lambda folder: write_luna(folder, subsets=7),
        new_file=new_scan,
        config={
            "data": NODULES["data"]
            | {"train_subsets": [0, 1, 2, 3], "val_subsets": [4, 5], "test_subsets": [6]},
            "model": NODULES["model"] | {"use_batch_norm": False, "use_dropout": False},
            "training": {
                "epochs": 3,
                "batch_size": 4,
                "accumulation_steps": 1,
                "hard_negative_mining": {"enabled": True},
            },
            "inference": NODULES["inference"] | {"threshold": 0.001},
        },
    ),
    Case(
        recipe="csr",
        write=lambda folder: write_chests(folder, train=40, test=12, size=48),
        new_file=new_chest,
        tolerance=1e-3,
        config={
            "training": {
                "epochs_stage1": 1,
                "epochs_stage2": 1,
                "epochs_stage3": 1,
                "batch_size": 8,
                "batch_size_per_process": None,
            },
            "data": {"image_size": 48, "validation_share": 0.2},
            "model": {"backbone": "small", "projection_size": 16, "freeze_batch_norm": True},
        },
    ),
)
BY_NAME = {case.recipe: case for case in CASES}
