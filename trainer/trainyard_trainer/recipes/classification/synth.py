"""A stand-in data set: one shape a class on a noisy ground, in the layout of the real ones.

    python -m trainyard_trainer.recipes.classification.synth DIR

Scores on it show that the plumbing works, and nothing else.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from trainyard_trainer.recipes.classification.splits import (
    RAW_DIRECTORY,
    partition_folds,
    write_index_files,
)
from trainyard_trainer.synthetic import write_mark

VERSION = 1
"""Goes up whenever the same seed gives other pixels."""
SHAPES = ("disc", "frame", "triangle")


def write_shapes(
    directory: Path, images_per_class: int = 40, size: int = 64, folds: int = 5, seed: int = 0
) -> None:
    """Write `raw/<shape>/<number>.png`, the index files of `folds` folds, and SYNTHETIC.json."""
    paths = []
    for shape in SHAPES:
        for number in range(images_per_class):
            path = f"{shape}/{number:04d}.png"
            file = directory / RAW_DIRECTORY / path
            file.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([seed, SHAPES.index(shape), number])
            draw_shape(shape, size, rng).save(file)
            paths.append(path)
    labels = [path.split("/")[0] for path in paths]
    write_index_files(directory, paths, partition_folds(labels, folds, test_share=0.15, seed=seed))
    write_mark(directory, __name__, VERSION, seed)


def draw_shape(shape: str, size: int, rng: np.random.Generator) -> Image.Image:
    """One RGB image of `size` pixels a side."""
    noise = rng.integers(40, 140, size=(size, size, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    radius = size * rng.uniform(0.2, 0.35)
    x, y = rng.uniform(radius, size - radius, size=2)
    colour = tuple(int(value) for value in rng.integers(150, 255, size=3))
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "disc":
        draw.ellipse(box, fill=colour)
    elif shape == "frame":
        draw.rectangle(box, outline=colour, width=max(2, size // 12))
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], colour)
    return image


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a stand-in data set of drawn shapes.")
    parser.add_argument("directory", type=Path, help="folder to write into; made if absent")
    parser.add_argument("--seed", type=int, default=0, help="of every image and the folds")
    options = parser.parse_args(arguments)
    write_shapes(options.directory, seed=options.seed)
    print(f"Wrote {len(SHAPES)} classes of synthetic images below {options.directory}.")


if __name__ == "__main__":
    main()
