"""Write the lists of images that folds and splits are made of: the guide's `ml-split`.

    python -m trainyard_trainer.recipes.classification.split --raw_data data/ants/raw --folds 5

Prints where they lie. Without --output that is `splits/` beside the raw data.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.image_files import IMAGE_SUFFIXES
from trainyard_trainer.recipes.classification.splits import (
    RAW_DIRECTORY,
    SPLITS_DIRECTORY,
    Partition,
    partition_folds,
    partition_holdout,
    write_lists,
)

RATIO = (0.7, 0.15, 0.15)


def split_images(
    raw: Path, folds: int, ratio: tuple[float, float, float], seed: int, output: Path
) -> Partition:
    """List `raw`/<class>/*, divide it and write the lists. Raises ConfigurationError.

    folds: 1 makes one fold by `ratio`; more make a partition of all but the test share.
    """
    if not raw.is_dir():
        raise ConfigurationError(f"--raw_data: there is no folder '{raw}'; name one of classes.")
    files = [f for f in sorted(raw.glob("*/*")) if f.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise ConfigurationError(f"--raw_data: '{raw}' has no images at <class>/<image>.")
    labels = [file.parent.name for file in files]
    if folds == 1:
        partition = partition_holdout(labels, ratio, seed)
    else:
        partition = partition_folds(labels, folds, ratio[2], seed)
    write_lists(output, [str(file.relative_to(raw)) for file in files], partition)
    return partition


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Divide images into train, val and test.")
    parser.add_argument("--raw_data", type=Path, required=True, help=f"folder '{RAW_DIRECTORY}'")
    parser.add_argument("--folds", type=int, default=5, help="1: one fold, by --ratio")
    parser.add_argument(
        "--ratio", type=float, nargs=3, default=RATIO, metavar=("TRAIN", "VAL", "TEST")
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, help=f"default: '{SPLITS_DIRECTORY}' beside it")
    told = parser.parse_args(arguments)
    output = told.output or told.raw_data.parent / SPLITS_DIRECTORY
    try:
        made = split_images(told.raw_data, told.folds, tuple(told.ratio), told.seed, output)
    except ConfigurationError as error:
        parser.exit(2, f"error: {error}\n")
    sizes = ", ".join(f"{len(fold.train)}/{len(fold.val)}" for fold in made.folds)
    print(f"{output}: {len(made.test)} for test; train/val by fold: {sizes}")


if __name__ == "__main__":
    main()
