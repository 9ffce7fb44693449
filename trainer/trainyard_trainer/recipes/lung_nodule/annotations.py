"""Nodules from CSV files: LUNA16's, and the guide's with malignancy.

LUNA16: seriesuid, coordX, coordY, coordZ, diameter_mm in world millimetres;
annotations_excluded.csv names irrelevant findings in the same columns. The guide: scan_id,
coordinates or three columns of them, diameter, malignancy.
"""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.grid import Triple

NO_DIAMETER_MM = 10.0
"""Of an irrelevant finding without one, as LUNA16's evaluation has it."""
_NAMES = {
    "scan": ("seriesuid", "scan_id", "series_uid", "scan"),
    "x": ("coordx", "coord_x", "x"),
    "y": ("coordy", "coord_y", "y"),
    "z": ("coordz", "coord_z", "z"),
    "diameter": ("diameter_mm", "diameter"),
    "malignancy": ("malignancy",),
}


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """One finding."""

    centre: Triple
    """World millimetres: z, y, x."""
    diameter: float
    """Millimetres."""
    is_malignant: bool | None = None
    """None: no label."""
    source: str = ""
    """File and line, for messages."""


def read_nodules(file: Path) -> dict[str, list[Nodule]]:
    """Findings by scan. Raises ConfigurationError naming the file, line and column."""
    if not file.is_file():
        raise ConfigurationError(
            f"data.annotations: no file '{file}'; correct the path, or put the CSV there."
        )
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = _columns(file, reader.fieldnames or [])
        rows = list(reader)
    graded = _grades(file, rows, columns.get("malignancy"))
    found: dict[str, list[Nodule]] = defaultdict(list)
    for number, (row, malignant) in enumerate(zip(rows, graded, strict=True), start=2):
        where = f"{file}, line {number}"
        diameter = _number(row, columns["diameter"], where)
        nodule = Nodule(
            centre=_centre(row, columns, where),
            diameter=diameter if diameter > 0 else NO_DIAMETER_MM,
            is_malignant=malignant,
            source=where,
        )
        found[row[columns["scan"]].strip()].append(nodule)
    return dict(found)


def _columns(file: Path, header: Sequence[str]) -> dict[str, str]:
    names = {str(name).strip().lower(): str(name) for name in header}
    found = {
        key: names[known]
        for key, spelt in _NAMES.items()
        for known in spelt[::-1]
        if known in names
    }
    if "coordinates" in names:
        found["coordinates"] = names["coordinates"]
    needed = ["scan", "diameter", *([] if "coordinates" in found else ["x", "y", "z"])]
    for key in needed:
        if key not in found:
            raise ConfigurationError(
                f"data.annotations: '{file}' has no column '{_NAMES[key][0]}'; its header is "
                f"{', '.join(names) or 'empty'}."
            )
    return found


def _centre(row: Mapping[str, str], columns: Mapping[str, str], where: str) -> Triple:
    if "coordinates" in columns:
        text = row[columns["coordinates"]] or ""
        numbers = re.findall(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?", text)
        if len(numbers) != 3:
            raise ConfigurationError(
                f"{where}: column 'coordinates' is '{text}'; write x, y and z in millimetres."
            )
        x, y, z = (float(number) for number in numbers)
        return z, y, x
    z, y, x = (_number(row, columns[axis], where) for axis in "zyx")
    return z, y, x


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    text = (row.get(column) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(f"{where}: column '{column}' is '{text}'; write a number.")
    return value


def _grades(file: Path, rows: list[dict[str, str]], column: str | None) -> list[bool | None]:
    """0 and 1 as they are; LIDC's ratings 1 to 5 as benign, undecided (3: no label), malignant."""
    if column is None:
        return [None] * len(rows)
    texts = [(row.get(column) or "").strip() for row in rows]
    values = [
        _number(row, column, f"{file}, line {number}") if text else None
        for number, (row, text) in enumerate(zip(rows, texts, strict=True), start=2)
    ]
    middle = 0.5 if max((v for v in values if v is not None), default=0) <= 1 else 3.0
    return [None if value is None or value == middle else value > middle for value in values]
