"""Raw volumes to what is trained on, once: one spacing, HU cut off, a folder for each split.

    python -m trainyard_trainer.recipes.lung_nodule.prepare preprocess \\
        --input-dir data/raw --output-dir data/processed --config configs/train.yaml
    python -m trainyard_trainer.recipes.lung_nodule.prepare split \\
        --data-dir data/processed --train-ratio 0.7 --val-ratio 0.15 --test-ratio 0.15

World coordinates stay as they are, and so do annotations.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainyard_trainer.config import build_config, parse_layer
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.config import Config, NoduleDataConfig
from trainyard_trainer.recipes.lung_nodule.scans import SPLITS
from trainyard_trainer.recipes.lung_nodule.volumes import (
    find_volumes,
    read_volume,
    uid_of,
    write_volume,
)

SPACING = (1.0, 1.0, 1.0)
"""Of preprocessed volumes where data.spacing_mm says nothing, mm."""


def preprocess(source: Path, target: Path, config: NoduleDataConfig) -> int:
    """Write each volume of `source` below `target` as .mhd of int16 HU; returns how many.

    HU are cut to what data.windows cover. Raises ConfigurationError naming what cannot be read.
    """
    files = find_volumes(source) if source.is_dir() else []
    if not files:
        raise ConfigurationError(f"--input-dir: '{source}' holds no volumes; put .mhd files there.")
    low = min(window[0] for window in config.windows)
    high = max(window[1] for window in config.windows)
    for file in files:
        voxels, grid = read_volume(file, config.spacing_mm or SPACING)
        kept = np.round(np.clip(voxels, low, high)).astype(np.int16)
        write_volume(target / f"{uid_of(file)}.mhd", kept, grid)
    return len(files)


def split(directory: Path, shares: Sequence[float], seed: int = 0) -> dict[str, int]:
    """Move the volumes of a folder into train/, val/ and test/ below it; returns how many each.

    val and test have their share, rounded, and at least one scan where their share is not 0.
    """
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigurationError(
            f"--train-ratio: {', '.join(map(str, shares))} are not shares of train, val and test; "
            "write three numbers that add up to 1."
        )
    files = [file for file in find_volumes(directory) if file.name.endswith(".mhd")]
    sizes = [max(1, round(share * len(files))) if share else 0 for share in shares[1:]]
    if len(files) <= sum(sizes):
        raise ConfigurationError(
            f"--data-dir: '{directory}' has {len(files)} volumes (.mhd), too few for three splits."
        )
    random.Random(seed).shuffle(files)
    sizes = [len(files) - sum(sizes), *sizes]
    for name, size in zip(SPLITS, sizes, strict=True):
        for file in files[:size]:
            for one in (file, file.with_suffix(".raw")):
                (directory / name).mkdir(exist_ok=True)
                one.rename(directory / name / one.name)
        files = files[size:]
    return dict(zip(SPLITS, sizes, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line, with the guide's flags."""
    parser = argparse.ArgumentParser(description="Prepare volumes for training.")
    commands = parser.add_subparsers(required=True, dest="command")
    one = commands.add_parser("preprocess", help="bring volumes to one spacing")
    one.add_argument("--input-dir", type=Path, required=True, help="folder of volumes")
    one.add_argument("--output-dir", type=Path, required=True, help="made if absent")
    one.add_argument("--config", type=Path, help="whose data.spacing_mm and data.windows count")
    two = commands.add_parser("split", help="move volumes to train/, val/ and test/")
    two.add_argument("--data-dir", type=Path, required=True, help="folder of .mhd volumes")
    for name, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        two.add_argument(f"--{name}-ratio", type=float, default=share, help="share of the scans")
    two.add_argument("--seed", type=int, default=0, help="of the order")
    options = parser.parse_args(arguments)
    if options.command == "preprocess":
        text = options.config.read_text(encoding="utf-8") if options.config else ""
        config = build_config(Config, [parse_layer(text, "--config")], sources=["--config"])
        count = preprocess(options.input_dir, options.output_dir, config.data)
        print(f"Wrote {count} volumes below {options.output_dir}.")
        return
    shares = (options.train_ratio, options.val_ratio, options.test_ratio)
    sizes = split(options.data_dir, shares, options.seed)
    print(", ".join(f"{size} {name}" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
