"""Write scikit-learn's handwritten digits as an image folder.

    python -m trainyard_trainer.digits DIR

Real images that need no download: 1,797 of 8x8 pixels in ten classes, split into train, val and
test by a fixed seed, so that everybody's 360 test images are the same ones.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.splits import partition_holdout

SHARES = (0.7, 0.1, 0.2)
"""Of train, val and test; 1,257, 180 and 360 images."""
SEED = 0
SOURCE_FILE = "SOURCE.json"
_LARGEST_VALUE = 16


def write_digits(directory: Path) -> dict[str, int]:
    """Write `<directory>/{train,val,test}/<digit>/<index>.png` and SOURCE.json.

    A pixel is round(255 x / 16), so that x can be had back exactly. Files that are already there
    with the same name are written again. Returns the images of each split.
    """
    images, labels = _load_digits()
    partition = partition_holdout([str(label) for label in labels], SHARES, SEED)
    fold = partition.folds[0]
    splits = {"train": fold.train, "val": fold.val, "test": partition.test}
    digest = hashlib.sha256()
    for name, indices in splits.items():
        for index in indices:
            file = directory / name / str(labels[index]) / f"{index:04d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(file)
            digest.update(images[index].tobytes())
    counts = {name: len(indices) for name, indices in splits.items()}
    source = _describe(counts, labels, digest.hexdigest())
    (directory / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    return counts


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="trainyard_trainer.digits", description="Write the digits as an image folder."
    )
    parser.add_argument("directory", type=Path, help="folder to write into; made if absent")
    directory = parser.parse_args(arguments).directory
    counts = write_digits(directory)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"Wrote {sum(counts.values())} images below {directory}: {listed}.")


def _load_digits() -> tuple[NDArray[np.uint8], list[int]]:
    """(1797, 8, 8) grey images and their digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigurationError(
            "digits: scikit-learn, which brings the images, is not installed; "
            "install 'trainyard[digits]'."
        ) from error
    digits = load_digits()
    images = np.round(digits.images * (255 / _LARGEST_VALUE)).astype(np.uint8)
    return images, [int(label) for label in digits.target]


def _describe(counts: dict[str, int], labels: list[int], digest: str) -> dict[str, object]:
    return {
        "name": "Optical recognition of handwritten digits, test set",
        "authors": "E. Alpaydin and C. Kaynak, 1998",
        "from": "scikit-learn's load_digits(), a copy of the UCI repository's data set 80",
        "url": "https://archive.ics.uci.edu/dataset/80",
        "licence": "CC BY 4.0 by the UCI repository's terms; look there before redistributing",
        "changes": "values 0..16 stored as round(255 x / 16) in 8-bit grey PNG files of 8x8 pixels",
        "synthetic": False,
        "split_seed": SEED,
        "images": counts,
        "images_by_class": {str(digit): n for digit, n in sorted(Counter(labels).items())},
        "pixels_sha256": digest,
    }


if __name__ == "__main__":
    main()
