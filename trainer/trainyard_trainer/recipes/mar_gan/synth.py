"""A stand-in data set: drawn patients with simulated metal, in the layout of the real ones.

    python -m trainyard_trainer.recipes.mar_gan.synth DIR

The streaks are physically real (see physics.py), the patients are ellipses: scores on it are never
clinical results.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainyard_trainer.recipes.mar_gan.layouts import WITH_METAL, WITHOUT_METAL
from trainyard_trainer.recipes.mar_gan.phantom import draw_metal, draw_slice
from trainyard_trainer.recipes.mar_gan.physics import Gantry, Grid, Scan, Scanner, attenuation
from trainyard_trainer.synthetic import write_mark

VERSION = 1
"""Goes up whenever the same seed gives other pixels."""
MASK_SIDE = 512
METALS = ("titanium", "iron")
SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is made."""

    side: int = 64
    """Of the images, in pixels; the real ones have 416."""
    patients: tuple[int, int] = (40, 8)
    """For training and for testing."""
    slices: int = 1
    """Of each patient."""
    masks: tuple[int, int] = (16, 8)
    """Metals for each slice, in training and testing."""


def write_syndeeplesion(directory: Path, size: Size, seed: int = 0) -> None:
    """Write SynDeepLesion's folders, lists and masks, and SYNTHETIC.json."""
    for split_index, split in enumerate(SPLITS):
        masks = _masks(split_index, size, seed)
        folder = directory / f"{split}_640geo"
        lines = []
        for patient in range(size.patients[split_index]):
            for slice_ in range(size.slices):
                name = f"{1000 * split_index + patient + 1:06d}_01_01/{slice_ + 1:03d}"
                scans = _scan(size, masks, (seed, split_index, patient, slice_))
                _write_slice(folder / name, scans)
                lines.append(f"{folder.name}/{name}/gt.h5\n")
        whole = np.stack(masks, axis=2).astype(np.uint8)
        np.save(directory / f"{split}mask.npy", whole)
        listed = directory / f"{split}_640geo_dir.txt"
        listed.write_text("".join(lines), encoding="utf-8")
    write_mark(directory, __name__, VERSION, seed)


def write_spineweb(directory: Path, size: Size, seed: int = 0) -> None:
    """Write SpineWeb's folders, each slice with one metal, and SYNTHETIC.json."""
    for split_index, split in enumerate(SPLITS):
        masks = _masks(split_index, size, seed)
        folders = [directory / split / name for name in (WITH_METAL, WITHOUT_METAL)]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for patient in range(size.patients[split_index]):
            for slice_ in range(size.slices):
                one = [masks[(patient + slice_) % len(masks)]]
                (scan,) = _scan(size, one, (seed, split_index, patient, slice_))
                name = f"{patient + 1:03d}_{slice_ + 1:03d}.npy"
                for folder, image in zip(folders, (scan.artefact, scan.target), strict=True):
                    np.save(folder / name, to_hounsfield(image))
    write_mark(directory, __name__, VERSION, seed)


def to_hounsfield(image: Grid) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Attenuation in 1/cm as HU: water is 0, air is -1000."""
    water = attenuation("soft")
    return ((image / water - 1) * 1000).astype(np.float32)


def _masks(split_index: int, size: Size, seed: int) -> list[Grid]:
    return [
        draw_metal(np.random.default_rng([seed, split_index, number, 7]), MASK_SIDE)
        for number in range(size.masks[split_index])
    ]


def _scan(size: Size, masks: Sequence[Grid], key: tuple[int, int, int, int]) -> list[Scan]:
    """One slice with each of the masks. key: seed, split, patient, slice."""
    patient, slice_ = np.random.default_rng(key[:3]), np.random.default_rng(key)
    gantry = Gantry(draw_slice(patient, slice_, size.side), Scanner())
    scans = []
    for number, mask in enumerate(masks):
        rng = np.random.default_rng([*key, number])
        material = METALS[int(rng.integers(len(METALS)))]
        scans.append(gantry.scan(shrink_mask(mask, size.side), material, rng))
    return scans


def shrink_mask(mask: Grid, side: int) -> Grid:
    """As the loader does it: bilinear, then what exceeds a half."""
    from PIL import Image

    image = Image.fromarray(mask.astype(np.float32))
    scaled = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    return (scaled > 0.5).astype(np.float64)


def _write_slice(folder: Path, scans: Sequence[Scan]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_h5(folder / "gt.h5", image=scans[0].target)
    for number, scan in enumerate(scans):
        write_h5(folder / f"{number}.h5", ma_CT=scan.artefact, LI_CT=scan.interpolated)


def write_h5(file: Path, **images: Grid) -> None:
    """Data sets by name, as float32."""
    import h5py

    with h5py.File(file, "w") as opened:
        for name, image in images.items():
            opened.create_dataset(name, data=image.astype(np.float32), compression="gzip")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a stand-in data set of drawn patients.")
    parser.add_argument("directory", type=Path, help="folder to write into; made if absent")
    parser.add_argument("--layout", choices=["syndeeplesion", "spineweb"], default="syndeeplesion")
    parser.add_argument("--side", type=int, default=Size.side, help="of the images, in pixels")
    parser.add_argument("--patients", type=int, nargs=2, default=Size.patients)
    parser.add_argument("--slices", type=int, default=Size.slices, help="of each patient")
    parser.add_argument("--masks", type=int, nargs=2, default=Size.masks)
    parser.add_argument("--seed", type=int, default=0, help="of every image and mask")
    options = parser.parse_args(arguments)
    size = Size(
        side=options.side,
        patients=tuple(options.patients),
        slices=options.slices,
        masks=tuple(options.masks),
    )
    options.directory.mkdir(parents=True, exist_ok=True)
    write = write_spineweb if options.layout == "spineweb" else write_syndeeplesion
    write(options.directory, size, options.seed)
    slices = sum(size.patients) * size.slices
    print(f"Wrote {slices} slices of synthetic patients below {options.directory}.")


if __name__ == "__main__":
    main()
