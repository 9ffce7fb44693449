"""Stand-in X-rays in VinDr-CXR's layout: a drawn chest, findings with boxes, three readers.

    trainyard synth csr --out DIR

Scores on them show that the plumbing works, and nothing else. DIR/{train,test}/<id>.dicom,
annotations/image_labels_{train,test}.csv and annotations/annotations_{train,test}.csv; a fifth of
the images is MONOCHROME1. Diagnoses follow from findings, as csr assumes: see `diagnose`.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainyard_trainer.recipes.csr.chest import DRAWERS, Chest, PixelBox
from trainyard_trainer.recipes.csr.labels import DIAGNOSES, FINDINGS
from trainyard_trainer.synthetic import write_mark

VERSION = 1
"""Goes up whenever the same seed gives other data."""
READERS = ("R8", "R9", "R10")
_SHARE_OF_IMAGES = 0.22
"""That have any one finding."""
_MONOCHROME1_SHARE = 0.2
_AGREEMENT = 0.8
"""Chance that a reader beside the first sees what is there."""
_LARGEST = 4095


def diagnose(findings: Sequence[str]) -> list[str]:
    """What a chest with these findings has."""
    found = set(findings)
    if not found:
        return ["No finding"]
    rules = {
        "Tuberculosis": "Lung cavity" in found,
        "Pneumonia": "Consolidation" in found and "Lung cavity" not in found,
        "Lung tumor": "Nodule/Mass" in found,
        "COPD": "Pneumothorax" in found,
        "Other disease": bool(found & {"Cardiomegaly", "Pleural effusion", "Pulmonary fibrosis"}),
    }
    return [name for name, holds in rules.items() if holds]


def write_chests(
    directory: Path, train: int = 900, test: int = 200, size: int = 192, seed: int = 0
) -> None:
    """Write `train` and `test` X-rays of `size` pixels a side with their tables."""
    for number, (split, count) in enumerate((("train", train), ("test", test))):
        rng = np.random.default_rng([seed, number])
        readers = READERS if split == "train" else ("",)
        (directory / split).mkdir(parents=True, exist_ok=True)
        rows, boxes = [], []
        for _ in range(count):
            image = rng.bytes(16).hex()
            chest, found = _draw(size, rng)
            _write_dicom(directory / split / f"{image}.dicom", chest.pixels, rng)
            opinions = _read_by(readers, list(found), rng)
            rows += [_row(image, reader, seen) for reader, seen in opinions.items()]
            for reader, seen in opinions.items():
                boxes += [(image, reader, name, *found[name]) for name in seen]
        _write_tables(directory / "annotations", split, rows, boxes)
    write_mark(directory, __name__, VERSION, seed)


def _draw(size: int, rng: np.random.Generator) -> tuple[Chest, dict[str, PixelBox]]:
    present = [name for name in DRAWERS if rng.random() < _SHARE_OF_IMAGES]
    chest = Chest(size, rng, is_large_hearted="Cardiomegaly" in present)
    return chest, {name: DRAWERS[name](chest, rng) for name in present}


def _read_by(
    readers: Sequence[str], found: list[str], rng: np.random.Generator
) -> dict[str, list[str]]:
    """What each reader saw; at least one of them saw each finding."""
    opinions: dict[str, list[str]] = {reader: [] for reader in readers}
    for name in found:
        sure = rng.integers(len(readers))
        for number, reader in enumerate(readers):
            if number == sure or rng.random() < _AGREEMENT:
                opinions[reader].append(name)
    return opinions


def _row(image: str, reader: str, seen: list[str]) -> list[str]:
    present = {*seen, *diagnose(seen)}
    labels = [str(int(name in present)) for name in (*FINDINGS, *DIAGNOSES)]
    return [image, *([reader] if reader else []), *labels]


def _write_tables(
    folder: Path, split: str, rows: list[list[str]], boxes: Sequence[tuple[object, ...]]
) -> None:
    folder.mkdir(exist_ok=True)
    is_train = split == "train"
    # The real tables spell this one label differently, too.
    diagnoses = ["Other diseases" if is_train and n == "Other disease" else n for n in DIAGNOSES]
    reader = ["rad_id"] if is_train else []
    with (folder / f"image_labels_{split}.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["image_id", *reader, *FINDINGS, *diagnoses], *rows])
    corners = ["x_min", "y_min", "x_max", "y_max"]
    with (folder / f"annotations_{split}.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image_id", *reader, "class_name", *corners])
        writer.writerows([one[0], *([one[1]] if is_train else []), *one[2:]] for one in boxes)


def _write_dicom(file: Path, pixels: np.ndarray, rng: np.random.Generator) -> None:
    """pixels: (H, W) float in 0..1, black for air; stored with 12 bits."""
    import pydicom
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    is_inverted = rng.random() < _MONOCHROME1_SHARE
    stored = (np.clip(1 - pixels if is_inverted else pixels, 0, 1) * _LARGEST).astype(np.uint16)
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = (
        DigitalXRayImageStorageForPresentation
    )
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(
        entropy_srcs=[file.stem]
    )
    data.Modality, data.SamplesPerPixel = "DX", 1
    data.PhotometricInterpretation = "MONOCHROME1" if is_inverted else "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.ImagerPixelSpacing = [0.14, 0.14]
    data.WindowCenter, data.WindowWidth = (_LARGEST + 1) // 2, _LARGEST + 1
    data.PixelData = stored.tobytes()
    data.save_as(file, enforce_file_format=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write stand-in X-rays in VinDr-CXR's layout.")
    parser.add_argument("directory", type=Path, help="folder to write into; made if absent")
    parser.add_argument("--seed", type=int, default=0, help="of everything drawn")
    parser.add_argument("--train", type=int, default=900, help="training images")
    parser.add_argument("--test", type=int, default=200, help="test images")
    parser.add_argument("--size", type=int, default=192, help="pixels of a side")
    given = parser.parse_args(arguments)
    write_chests(given.directory, given.train, given.test, given.size, given.seed)
    print(f"Wrote {given.train} + {given.test} synthetic X-rays below {given.directory}.")


if __name__ == "__main__":
    main()
