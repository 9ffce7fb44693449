"""A stand-in for LUNA16 in its layout: chests with textured lungs, vessels, scars and nodules.

    trainyard synth lung-nodule --out DIR

`subset0/` to `subset9/` hold .mhd volumes with anisotropic spacing and an offset; annotations.csv
and annotations_excluded.csv have LUNA16's columns, annotations_malignancy.csv the guide's. Nodules
are balls, some of them spiculated, which here means malignant. Scores on this show that the
plumbing works, and nothing else.
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from trainyard_trainer.recipes.lung_nodule.grid import Floats, Grid, Triple
from trainyard_trainer.recipes.lung_nodule.volumes import write_volume
from trainyard_trainer.synthetic import write_mark

VERSION = 1
"""Goes up whenever the same seed gives other voxels."""
GENERATOR = "trainyard_trainer.recipes.lung_nodule.synth"
SUBSETS = 10
SHAPE = (48, 96, 96)
SPACING: Triple = (2.0, 1.4, 1.4)
_AIR, _LUNG, _TISSUE, _BONE = -1000.0, -850.0, 40.0, 400.0
_LUNG_AXES = np.array([42.0, 48.0, 25.0])
_LUNG_CENTRES = (np.array([0.0, 0.0, -30.0]), np.array([0.0, 0.0, 30.0]))
"""Millimetres from the middle of the chest, z, y, x."""
_VESSELS = 14
_DIAMETERS = (5.0, 16.0)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A nodule or a scar."""

    centre: Floats
    """World millimetres, z, y, x."""
    diameter: float
    is_spiculated: bool = False


@dataclass(kw_only=True)
class Chest:
    """A volume while it is drawn; millimetres from its middle."""

    grid: Grid
    voxels: Floats
    nodules: list[Finding] = field(default_factory=list)
    scars: list[Finding] = field(default_factory=list)

    @property
    def middle(self) -> Floats:
        """World millimetres."""
        return self.grid.to_world((np.asarray(self.grid.shape) - 1) / 2)


def write_luna(out: Path, scans: int = 40, seed: int = 0) -> None:
    """Write so many scans, dealt over the ten subsets, their CSV files and SYNTHETIC.json."""
    found = []
    for number in range(scans):
        chest = draw_chest(np.random.default_rng([seed, number]))
        uid = f"synthetic.{seed}.{number:04d}"
        file = out / f"subset{number % SUBSETS}" / f"{uid}.mhd"
        write_volume(file, np.round(chest.voxels).clip(-1024, 3071).astype(np.int16), chest.grid)
        found.append((uid, chest))
    nodules = [(uid, one) for uid, chest in found for one in chest.nodules]
    scars = [(uid, one) for uid, chest in found for one in chest.scars]
    head = ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
    _write_csv(out / "annotations.csv", head, (_luna_row(*pair) for pair in nodules))
    _write_csv(out / "annotations_excluded.csv", head, (_luna_row(*pair) for pair in scars))
    head = ["scan_id", "x", "y", "z", "diameter", "malignancy"]
    rows = ([*_luna_row(uid, one), int(one.is_spiculated)] for uid, one in nodules)
    _write_csv(out / "annotations_malignancy.csv", head, rows)
    write_mark(out, GENERATOR, VERSION, seed)


def draw_chest(rng: np.random.Generator) -> Chest:
    """One chest with one to three nodules and up to two scars."""
    origin = tuple((np.array([-310.0, -170.0, -190.0]) + rng.uniform(-20, 20, 3)).round(2).tolist())
    chest = _draw_body(Grid(shape=SHAPE, spacing=SPACING, origin=origin), rng)
    for centre in _LUNG_CENTRES:
        for _ in range(_VESSELS):
            _draw_vessel(chest, centre, rng)
    taken: list[tuple[Floats, float]] = []
    for _ in range(rng.integers(1, 4)):
        chest.nodules.append(_draw_nodule(chest, taken, rng))
    for _ in range(rng.integers(0, 3)):
        chest.scars.append(_draw_scar(chest, taken, rng))
    chest.voxels += rng.normal(0, 25, SHAPE)
    return chest


def _draw_body(grid: Grid, rng: np.random.Generator) -> Chest:
    chest = Chest(grid=grid, voxels=np.full(grid.shape, _AIR))
    z, y, x = _away(chest, np.zeros(3), tuple(slice(0, side) for side in grid.shape))
    body = (y / 62) ** 2 + (x / 64) ** 2 < 1
    chest.voxels[body] = _TISSUE
    chest.voxels[body & ((y - 48) ** 2 + x**2 < 9**2)] = _BONE
    texture = ndimage.gaussian_filter(rng.normal(size=grid.shape), [1.5 / s for s in grid.spacing])
    lung = _LUNG + 45 * texture / texture.std()
    for centre in _LUNG_CENTRES:
        away = np.stack([z - centre[0], y - centre[1], x - centre[2]])
        inside = (away**2 / _LUNG_AXES[:, None, None, None] ** 2).sum(0) < 1
        chest.voxels[inside] = lung[inside]
    return chest


def _draw_vessel(chest: Chest, lung: Floats, rng: np.random.Generator) -> None:
    """A tube that wanders outwards from the hilum, thinner and thinner."""
    outwards = np.sign(lung[2])
    place = lung + rng.uniform(-1, 1, 3) * [20, 14, 4] - [0, 0, outwards * 14]
    heading = _unit(rng.normal(size=3) * [1.2, 1.2, 0.5] + [0, 0, outwards])
    radius = rng.uniform(1.2, 3.2)
    while radius > 0.8 and _is_in(place, lung, 0.97):
        _stamp(chest, place, np.full(3, radius), np.eye(3), _TISSUE - 20)
        heading = _unit(heading + 0.22 * rng.normal(size=3))
        place = place + heading * 1.2
        radius *= 0.975


def _draw_nodule(
    chest: Chest, taken: list[tuple[Floats, float]], rng: np.random.Generator
) -> Finding:
    low, high = np.log(_DIAMETERS)
    diameter = float(np.exp(rng.uniform(low, high)))
    is_spiculated = bool(rng.random() < 0.4)
    place = _free_place(taken, diameter, rng)
    core = diameter / 2 * (0.85 if is_spiculated else 1.0)
    density = rng.uniform(-60, 80)
    _stamp(chest, place, np.full(3, core), np.eye(3), density)
    if is_spiculated:
        for direction in rng.normal(size=(14, 3)):
            reach = core * rng.uniform(1.2, 1.7)
            for distance in np.arange(core, reach, 0.7):
                spot = place + _unit(direction) * distance
                _stamp(chest, spot, np.full(3, 0.9), np.eye(3), density)
    return Finding(
        centre=chest.middle + place, diameter=round(diameter, 3), is_spiculated=is_spiculated
    )


def _draw_scar(
    chest: Chest, taken: list[tuple[Floats, float]], rng: np.random.Generator
) -> Finding:
    """A long flat opacity."""
    length = float(rng.uniform(10, 18))
    place = _free_place(taken, length, rng)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    _stamp(chest, place, np.array([length / 2, 1.8, 1.8]), turn, rng.uniform(-100, 40))
    return Finding(centre=chest.middle + place, diameter=round(length, 3))


def _free_place(
    taken: list[tuple[Floats, float]], diameter: float, rng: np.random.Generator
) -> Floats:
    """In a lung, and apart from what lies there already."""
    while True:
        lung = _LUNG_CENTRES[rng.integers(2)]
        place = lung + rng.uniform(-1, 1, 3) * _LUNG_AXES
        apart = all(np.linalg.norm(place - p) > (diameter + d) / 2 + 5 for p, d in taken)
        if _is_in(place, lung, 0.85) and apart:
            taken.append((place, diameter))
            return np.asarray(place)


def _stamp(chest: Chest, place: Floats, radii: Floats, turn: Floats, density: float) -> None:
    """An ellipsoid with an edge of one voxel or so, where it is brighter than what is there."""
    grid, reach = chest.grid, radii.max() + 2
    spacing, middle = np.asarray(grid.spacing), (np.asarray(grid.shape) - 1) / 2
    low = np.maximum(0, np.floor(middle + (place - reach) / spacing)).astype(int)
    high = np.minimum(grid.shape, np.ceil(middle + (place + reach) / spacing) + 1).astype(int)
    if np.any(high <= low):
        return
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    away = np.einsum("ij,jdhw->idhw", turn, _away(chest, place, box))
    distance = np.sqrt((away**2 / radii[:, None, None, None] ** 2).sum(0))
    share = np.clip(0.5 + (1 - distance) * radii.min() / spacing.mean(), 0, 1)
    region = chest.voxels[box]
    np.maximum(region, _LUNG + share * (density - _LUNG), out=region, where=share > 0)


def _away(chest: Chest, place: Floats, box: tuple[slice, ...]) -> Floats:
    """(3, d, h, w): millimetres of voxels of a box from a place."""
    ranges = zip(box, chest.grid.shape, chest.grid.spacing, place, strict=True)
    axes = [(np.arange(b.start, b.stop) - (n - 1) / 2) * s - p for b, n, s, p in ranges]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _is_in(place: Floats, lung: Floats, share: float) -> bool:
    return bool((((place - lung) / _LUNG_AXES) ** 2).sum() < share**2)


def _unit(vector: NDArray[np.float64]) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))


def _luna_row(uid: str, finding: Finding) -> list[object]:
    z, y, x = finding.centre.tolist()
    return [uid, f"{x:.4f}", f"{y:.4f}", f"{z:.4f}", finding.diameter]


def _write_csv(file: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write synthetic chest CT in LUNA16's layout.")
    parser.add_argument("directory", type=Path, help="folder to write into; made if absent")
    parser.add_argument("--scans", type=int, default=40, help="how many; 40 are 36 MB")
    parser.add_argument("--seed", type=int, default=0, help="of every voxel")
    options = parser.parse_args(arguments)
    write_luna(options.directory, options.scans, options.seed)
    print(f"Wrote {options.scans} synthetic scans below {options.directory}.")


if __name__ == "__main__":
    main()
