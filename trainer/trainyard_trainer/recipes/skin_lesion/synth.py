"""A stand-in for HAM10000: drawn lesions on skin, several photographs of each, in its layout.

    trainyard synth skin-lesion --out DIR -- --lesions 120 --size 96

What the classes differ in is drawn after the ABCD rule (asymmetry, border, colour, diameter):
malignant ones have ragged borders and patches of several colours. The ground, its light, hairs,
place and size vary with each photograph and tell nothing, so that a linear model on pixels does
little better than the majority class. Scores on it show that the plumbing works, and nothing else.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trainyard_trainer.recipes.skin_lesion.lesions import (
    DIAGNOSES,
    IMAGES_DIRECTORY,
    MALIGNANT,
    METADATA_FILE,
)
from trainyard_trainer.synthetic import write_mark

VERSION = 1
"""Goes up whenever the same seed gives other pixels."""
COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
SHARES = {"nv": 0.4, "bkl": 0.12, "df": 0.06, "vasc": 0.06, "mel": 0.2, "bcc": 0.1, "akiec": 0.06}
"""Nevi lead, as in HAM10000, if by less: a small set needs some of each."""
_SITES = ("back", "lower extremity", "trunk", "face", "abdomen")
_LEAST = 3


def write_lesions(directory: Path, lesions: int = 240, size: int = 96, seed: int = 0) -> int:
    """Write images and table of so many lesions, one to three photographs of each.

    Returns the number of images.
    """
    (directory / IMAGES_DIRECTORY).mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Any, ...]] = []
    for number, diagnosis in enumerate(_deal(lesions)):
        rng = np.random.default_rng([seed, number])
        shape = _outline(rng, is_ragged=diagnosis in MALIGNANT)
        person = (int(rng.integers(4, 17)) * 5, rng.choice(["male", "female"]), rng.choice(_SITES))
        for _ in range(int(rng.integers(1, 4))):
            image_id = f"ISIC_{len(rows):07d}"
            picture = draw_lesion(diagnosis, shape, size, rng)
            picture.save(directory / IMAGES_DIRECTORY / f"{image_id}.jpg", quality=90)
            rows.append((f"HAM_{number:07d}", image_id, diagnosis, "synthetic", *person))
    table = directory / METADATA_FILE
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    write_mark(directory, __name__, VERSION, seed)
    return len(rows)


def draw_lesion(
    diagnosis: str, shape: NDArray[np.float64], size: int, rng: np.random.Generator
) -> Image.Image:
    """One photograph, RGB, `size` pixels a side. shape: radii around the lesion's centre."""
    scale = 4
    side = size * scale // 2
    skin = np.array([226, 180, 160]) + rng.normal(0, 14, 3)
    picture = Image.new("RGB", (side, side), _rgb(skin))
    draw = ImageDraw.Draw(picture)
    radius = side * rng.uniform(0.18, 0.34)
    centre = side * rng.uniform(0.36, 0.64, 2)
    turned = np.roll(shape, int(rng.integers(len(shape))))
    border = _points(centre, radius * turned)
    base = np.array([130, 82, 62]) * rng.uniform(0.6, 1.3) + rng.normal(0, 7, 3)
    draw.polygon(border, fill=_rgb(base))
    if diagnosis in MALIGNANT:
        _paint_patches(picture, border, base, radius, rng)
    _paint_hairs(draw, side, rng)
    picture = picture.filter(ImageFilter.GaussianBlur(side / 160))
    left, right = rng.uniform(0.8, 1.15, 2)
    light = np.linspace(left, right, side)[None, :, None]
    pixels = np.asarray(picture, dtype=np.float64) * light
    if rng.random() < 0.5:
        pixels = pixels.transpose(1, 0, 2)
    pixels += rng.normal(0, 5, pixels.shape)
    lit = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return lit.resize((size, size), Image.Resampling.BILINEAR)


def _deal(lesions: int) -> list[str]:
    """A diagnosis for each lesion, each at least three times."""
    counts = {name: max(_LEAST, round(SHARES[name] * lesions)) for name in DIAGNOSES}
    counts["nv"] = max(_LEAST, lesions - sum(n for name, n in counts.items() if name != "nv"))
    return [name for name in DIAGNOSES for _ in range(counts[name])]


def _outline(rng: np.random.Generator, *, is_ragged: bool) -> NDArray[np.float64]:
    """Radii at even angles, about 1: smooth, or with notches."""
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.ones_like(angles)
    for order in (2, 3):
        radii += rng.uniform(0, 0.1) * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    if is_ragged:
        for order in rng.integers(6, 14, 4):
            radii += rng.uniform(0.03, 0.07) * np.cos(order * angles + rng.uniform(0, 2 * np.pi))
    return radii.clip(0.3)


def _paint_patches(
    picture: Image.Image,
    border: list[tuple[float, float]],
    base: NDArray[np.float64],
    radius: float,
    rng: np.random.Generator,
) -> None:
    """Darker, redder and bluish patches inside the border that leave its mean colour as it is."""
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).polygon(border, fill=255)
    patched = picture.copy()
    draw = ImageDraw.Draw(patched)
    centre = np.mean(border, axis=0)
    for _ in range(10):
        shift = np.array([32, 22, 20]) * rng.choice([-1, 1]) + rng.normal(0, 9, 3)
        x, y = centre + rng.uniform(-0.8, 0.8, 2) * radius
        reach = radius * rng.uniform(0.15, 0.35)
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=_rgb(base + shift))
    picture.paste(patched, mask=mask)


def _paint_hairs(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(0, 5))):
        ends = rng.uniform(0, side, 4).tolist()
        draw.line(ends, fill=_rgb(np.full(3, rng.uniform(30, 90))), width=max(1, side // 120))


def _points(centre: NDArray[np.float64], radii: NDArray[np.float64]) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    x, y = centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _rgb(colour: NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in colour.clip(0, 255))
    return red, green, blue


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write drawn lesions in HAM10000's layout.")
    parser.add_argument("directory", type=Path, help="folder to write into; made if absent")
    parser.add_argument("--seed", type=int, default=0, help="of every image and the table")
    parser.add_argument("--lesions", type=int, default=240, help="one to three images of each")
    parser.add_argument("--size", type=int, default=96, help="side of an image in pixels")
    options = parser.parse_args(arguments)
    count = write_lesions(options.directory, options.lesions, options.size, options.seed)
    print(f"Wrote {count} synthetic images below {options.directory}.")


if __name__ == "__main__":
    main()
