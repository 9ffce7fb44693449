"""Small data sets on disk for the tests of recipe classification."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(file: Path, colour: tuple[int, int, int] = (200, 40, 40), size: int = 12) -> None:
    """One image of a single colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), colour, dtype=np.uint8)).save(file)


def write_folders(root: Path, classes: tuple[str, ...] = ("ants", "bees"), images: int = 3) -> Path:
    """`root/{train,val,test}/<class>/*.png`."""
    for split in ("train", "val", "test"):
        for shade, name in enumerate(classes):
            for number in range(images):
                write_image(root / split / name / f"{number}.png", (90 * shade, 10 * number, 30))
    return root
