"""Small sets in HAM10000's layout for the tests of recipe skin-lesion."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trainyard_trainer.config import build_config
from trainyard_trainer.recipe import Site
from trainyard_trainer.recipes.skin_lesion.config import Config
from trainyard_trainer.recipes.skin_lesion.recipe import SkinLesion

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
SMALL: dict[str, Any] = {"data": {"image_size": 16}}


def write_set(root: Path, diagnoses: Sequence[str] = ("mel", "nv"), lesions: int = 6) -> Path:
    """`lesions` of each diagnosis, two images each, of one colour."""
    (root / "images").mkdir(parents=True)
    rows = []
    for number in range(lesions * len(diagnoses)):
        diagnosis = diagnoses[number % len(diagnoses)]
        for view in range(2):
            name = f"ISIC_{number:04d}{view}"
            shade = 60 + 120 * (number % len(diagnoses)) // len(diagnoses) + 3 * number
            pixels = np.full((20, 24, 3), shade + view, dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{name}.jpg")
            rows.append((f"HAM_{number}", name, diagnosis, "histo", "50", "male", "back"))
    write_table(root, rows)
    return root


def write_table(
    root: Path, rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS
) -> None:
    (root / "metadata").mkdir(exist_ok=True)
    with (root / "metadata" / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def make_recipe(root: Path | None, layer: dict[str, Any] = SMALL, *words: str) -> SkinLesion:
    site = Site(data_path=root, scratch=Path("unused"), device=torch.device("cpu"))
    return SkinLesion(build_config(Config, [layer], words), site)
