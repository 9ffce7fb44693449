"""Which scans and findings belong to a split: LUNA16's subsets, or a folder for each split.

Headers alone are read here. Whatever is wrong goes to `BadData`, which stops or leaves it out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.annotations import Nodule, read_nodules
from trainyard_trainer.recipes.lung_nodule.config import NoduleDataConfig
from trainyard_trainer.recipes.lung_nodule.grid import Grid
from trainyard_trainer.recipes.lung_nodule.volumes import (
    Unusable,
    find_volumes,
    holds_floats,
    read_grid,
    read_volume,
    uid_of,
)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One volume and what was found in it."""

    uid: str
    file: Path
    grid: Grid
    """As it is stored."""
    nodules: tuple[Nodule, ...] = ()
    irrelevant: tuple[Nodule, ...] = ()
    """LUNA16's excluded findings: finding them is neither right nor wrong."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a data set lies; of None nothing is read."""

    folders: dict[str, list[Path]]
    """Of each split."""
    annotations: Path
    excluded: Path | None = None
    unused: tuple[Path, ...] = ()
    """Folders of no split, whose scans may be annotated all the same."""


def places_of(config: NoduleDataConfig, root: Path | None) -> Places:
    """LUNA16's subsets below `root`, or the configured folders. Raises ConfigurationError."""
    base = Path() if root is None else root
    unused: tuple[Path, ...] = ()
    if config.train_dir is None:
        if root is None:
            raise ConfigurationError(
                "data.path: is not set; write LUNA16's folder, data.train_dir, or spec.dataset."
            )
        numbers = (config.train_subsets, config.val_subsets, config.test_subsets)
        folders = {
            split: [base / f"subset{number}" for number in chosen]
            for split, chosen in zip(SPLITS, numbers, strict=True)
            if chosen
        }
        unused = tuple(sorted(base.glob("subset*")))
    else:
        if config.val_dir is None:
            raise ConfigurationError(
                "data.val_dir: is not set beside data.train_dir; write the folder of validation "
                "volumes."
            )
        chosen_dirs = (config.train_dir, config.val_dir, config.test_dir)
        folders = {
            split: [base / one] for split, one in zip(SPLITS, chosen_dirs, strict=True) if one
        }
    excluded = base / config.excluded if config.excluded else None
    return Places(
        folders=folders,
        annotations=base / config.annotations,
        excluded=excluded if excluded and excluded.is_file() else None,
        unused=unused,
    )


def find_scans(places: Places, bad: BadData) -> dict[str, list[Scan]]:
    """Every split's scans, sorted by UID. Raises ConfigurationError naming what is absent.

    test may be absent; train and val need scans, and val a nodule to find.
    """
    nodules = read_nodules(places.annotations)
    irrelevant = read_nodules(places.excluded) if places.excluded else {}
    files = {split: _volumes(split, folders) for split, folders in places.folders.items()}
    seen = {uid_of(file) for listed in files.values() for file in listed}
    seen |= {uid_of(file) for folder in places.unused for file in find_volumes(folder)}
    _meet_unseen(nodules, seen, places, bad)
    found = {}
    for split, listed in files.items():
        read = (_read(file, nodules, irrelevant, bad) for file in listed)
        found[split] = [scan for scan in read if scan is not None]
    _refuse_empty(found, places)
    return found


def _volumes(split: str, folders: Sequence[Path]) -> list[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise ConfigurationError(
                f"data: no folder '{folder}' for the {split} split; correct data.{split}_dir or "
                f"data.{split}_subsets."
            )
    return sorted((file for folder in folders for file in find_volumes(folder)), key=uid_of)


def _read(
    file: Path,
    nodules: dict[str, list[Nodule]],
    irrelevant: dict[str, list[Nodule]],
    bad: BadData,
) -> Scan | None:
    uid = uid_of(file)
    try:
        grid = read_grid(file)
        if holds_floats(file):  # Whole numbers cannot be NaN.
            read_volume(file)
    except Unusable as error:
        bad.meet(str(error))
        return None
    inside = _inside(nodules.get(uid, ()), file, grid, bad)
    return Scan(
        uid=uid,
        file=file,
        grid=grid,
        nodules=tuple(inside),
        irrelevant=tuple(irrelevant.get(uid, ())),
    )


def _inside(nodules: Iterable[Nodule], file: Path, grid: Grid, bad: BadData) -> Iterable[Nodule]:
    for nodule in nodules:
        if grid.contains(np.asarray(nodule.centre)):
            yield nodule
            continue
        z, y, x = nodule.centre
        bad.meet(
            f"{nodule.source}: the nodule at x {x:g}, y {y:g}, z {z:g} mm lies outside of volume "
            f"'{file}'; correct its coordinates or take it out."
        )


def _meet_unseen(
    nodules: dict[str, list[Nodule]], seen: set[str], places: Places, bad: BadData
) -> None:
    for uid in sorted(set(nodules) - seen):
        bad.meet(
            f"{nodules[uid][0].source}: scan '{uid}' has no volume in "
            f"{_listed(places)}; add it or take its rows out."
        )


def _listed(places: Places) -> str:
    folders = [folder for listed in places.folders.values() for folder in listed]
    shown = ", ".join(f"'{folder}'" for folder in folders[:3])
    return shown if len(folders) <= 3 else f"{shown} and {len(folders) - 3} more folders"


def _refuse_empty(found: dict[str, list[Scan]], places: Places) -> None:
    for split, scans in found.items():
        folders = ", ".join(f"'{folder}'" for folder in places.folders[split])
        if not scans:
            raise ConfigurationError(
                f"data: the {split} split has no scans in {folders}; put volumes (.mhd with .raw) "
                "there."
            )
        if not any(scan.nodules for scan in scans):
            raise ConfigurationError(
                f"data: the {split} split in {folders} has no nodule of '{places.annotations}'; "
                "there is nothing to find."
            )


def with_least_diameter(scan: Scan, millimetres: float) -> Scan:
    """The scan with smaller nodules moved to what is neither looked for nor wrong to find."""
    kept = tuple(one for one in scan.nodules if one.diameter >= millimetres)
    small = tuple(one for one in scan.nodules if one.diameter < millimetres)
    return replace(scan, nodules=kept, irrelevant=scan.irrelevant + small)
