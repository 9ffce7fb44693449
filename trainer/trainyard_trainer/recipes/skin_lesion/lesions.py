"""HAM10000 on disk: which image shows which lesion, with what diagnosis, and in which split it is.

    images/<image_id>.jpg
    metadata/HAM10000_metadata.csv    lesion_id, image_id, dx, dx_type, age, sex, localization

Tschandl et al. 2018, doi.org/10.1038/sdata.2018.161: 10,015 images of 7,470 lesions. Several images
of one lesion are always in the same split: otherwise a network is tested on what it has learnt.
"""

import csv
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.folds import group_folds
from trainyard_trainer.recipes.classification.image_files import problem_of

DIAGNOSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
MALIGNANT = frozenset({"akiec", "bcc", "mel"})
SPLITS = ("train", "val", "test")
METADATA_FILE = "metadata/HAM10000_metadata.csv"
IMAGES_DIRECTORY = "images"
_NEEDED = ("lesion_id", "image_id", "dx")
_LEAST_LESIONS = 3


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One image of a lesion."""

    lesion: str
    diagnosis: str
    file: Path


def read_photos(root: Path, bad: BadData) -> list[Photo]:
    """The rows whose image can be read, sorted by image.

    bad: decides of a row without image, an unknown diagnosis, and an image that is cut off. Raises
    ConfigurationError where the table itself cannot be read.
    """
    table = root / METADATA_FILE
    photos: dict[str, Photo] = {}
    for number, row in _rows(table):
        where = f"{table}, line {number}"
        file = root / IMAGES_DIRECTORY / f"{row['image_id']}.jpg"
        if row["dx"] not in DIAGNOSES:
            known = ", ".join(DIAGNOSES)
            bad.meet(f"data: {where}: dx is '{row['dx']}'; it must be one of {known}.")
        elif row["image_id"] in photos:
            bad.meet(f"data: {where}: image '{row['image_id']}' is there twice; take one row out.")
        elif problem := problem_of(file):
            bad.meet(f"data: {where}: {problem}")
        else:
            photos[row["image_id"]] = Photo(lesion=row["lesion_id"], diagnosis=row["dx"], file=file)
    return [photos[name] for name in sorted(photos)]


def split_lesions(
    photos: Sequence[Photo], validation_share: float, test_share: float, seed: int
) -> dict[str, str]:
    """The split of each lesion, stratified by diagnosis.

    A pure function of the lesions, their diagnoses and the seed. A diagnosis with three lesions or
    more has at least one in each split.
    """
    if validation_share + test_share >= 1:
        raise ConfigurationError(
            f"data: validation_share {validation_share:g} and test_share {test_share:g} leave "
            "nothing to train on; write less."
        )
    found: dict[str, str] = {}
    for diagnosis, lesions in _by_diagnosis(photos).items():
        order = sorted(lesions)
        random.Random(f"{seed}/{diagnosis}").shuffle(order)
        validation = max(1, round(validation_share * len(order)))
        test = max(1, round(test_share * len(order)))
        if len(order) < _LEAST_LESIONS:
            validation, test = len(order) - 1, 0
        names = ["val"] * validation + ["test"] * test
        names += ["train"] * (len(order) - len(names))
        found |= dict(zip(order, names, strict=True))
    return found


def split_fold(
    photos: Sequence[Photo], split_of: Mapping[str, str], fold: int, folds: int, seed: int
) -> dict[str, str]:
    """The split of each lesion that is not tested on, where one fold is validated on.

    split_of: as `split_lesions` made it; its test stays what it is for every fold.
    """
    kept = [photo for photo in photos if split_of[photo.lesion] != "test"]
    diagnoses, groups = [photo.diagnosis for photo in kept], [photo.lesion for photo in kept]
    try:
        held = group_folds(diagnoses, groups, folds, seed)[fold]
    except ValueError as error:
        raise ConfigurationError(
            f"data.folds: {len(set(groups))} lesions do not make {folds} folds ({error}); write "
            "fewer."
        ) from error
    validated = {groups[index] for index in held}
    return {lesion: "val" if lesion in validated else "train" for lesion in groups}


def subsample(photos: Sequence[Photo], share: float, seed: int, *, stratified: bool) -> list[Photo]:
    """The photos of a share of the lesions; at least three of each diagnosis if stratified."""
    if share >= 1:
        return list(photos)
    groups = _by_diagnosis(photos) if stratified else {"": {photo.lesion for photo in photos}}
    kept: set[str] = set()
    for name, lesions in groups.items():
        order = sorted(lesions)
        random.Random(f"subsample/{seed}/{name}").shuffle(order)
        kept.update(order[: max(_LEAST_LESIONS, round(share * len(order)))])
    return [photo for photo in photos if photo.lesion in kept]


def class_names(num_classes: int) -> list[str]:
    """In the order of their indices."""
    return ["benign", "malignant"] if num_classes == 2 else list(DIAGNOSES)


def class_of(photo: Photo, num_classes: int) -> int:
    """Its class index."""
    if num_classes == 2:
        return int(photo.diagnosis in MALIGNANT)
    return DIAGNOSES.index(photo.diagnosis)


def refuse_gaps(counts: Mapping[str, Counter[int]], classes: Sequence[str]) -> None:
    """Every split needs an image of every class: scores of an absent class mean nothing."""
    for split in SPLITS:
        if not counts[split]:
            raise ConfigurationError(
                f"data: split '{split}' has no images; raise data.subsample_percentage, or add "
                "lesions."
            )
        for index, name in enumerate(classes):
            if not counts[split][index]:
                raise ConfigurationError(
                    f"data: split '{split}' has no image of class '{name}'; add lesions of it, "
                    "raise data.subsample_percentage, or write another data.split_seed."
                )


def _rows(table: Path) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"data.path: no file '{table}'; put HAM10000's table there and its images at "
            f"'{table.parents[1] / IMAGES_DIRECTORY}', or let `trainyard synth skin-lesion` draw "
            "some."
        ) from error
    reader = csv.DictReader(lines)
    for column in _NEEDED:
        if column not in (reader.fieldnames or ()):
            raise ConfigurationError(
                f"data: {table} has no column '{column}'; it needs {', '.join(_NEEDED)}."
            )
    for row in reader:
        yield reader.line_num, {name: (row[name] or "").strip() for name in _NEEDED}


def _by_diagnosis(photos: Iterable[Photo]) -> dict[str, set[str]]:
    """Lesions of each diagnosis; a lesion that has two counts for the first."""
    found: dict[str, set[str]] = defaultdict(set)
    known: dict[str, str] = {}
    for photo in photos:
        known.setdefault(photo.lesion, photo.diagnosis)
        found[known[photo.lesion]].add(photo.lesion)
    return dict(sorted(found.items()))
