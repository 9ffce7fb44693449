"""Labels of X-rays: VinDr-CXR's tables, and any other with one column a label.

A row is one reader's opinion of one image: `image_id`, `rad_id` where there are several readers,
then 0 or 1 for each label. An image has what any of its readers saw. Boxes, where there are any,
stand in another table: image_id, class_name, x_min, y_min, x_max, y_max, in pixels.

Nguyen et al. 2022, VinDr-CXR, doi.org/10.1038/s41597-022-01498-w.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard_trainer.config_errors import nearest
from trainyard_trainer.errors import ConfigurationError

FINDINGS = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
)
DIAGNOSES = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other disease", "No finding")
VINBIGDATA = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)
"""The 14 findings of the VinBigData challenge of 2020."""
_SPELLINGS = {"Other diseases": "Other disease"}
"""The training table's and the test table's names for one thing."""
_IMAGE_COLUMNS = ("image_id", "image", "filename")
_READER_COLUMNS = ("rad_id", "rad_ID")
PixelBox = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the image as it is stored."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """Labels by image, every reader's joined."""

    file: Path
    columns: tuple[str, ...]
    rows: dict[str, tuple[int, ...]]
    """By image: 0 or 1 for each column; in the file's order."""

    def select(self, names: Sequence[str], key: str) -> list[tuple[int, ...]]:
        """Labels of these columns, a row an image. Raises ConfigurationError for a foreign name."""
        for name in names:
            if name not in self.columns:
                raise ConfigurationError(
                    f"{key}: '{self.file}' has no column '{name}'; {nearest(name, [*self.columns])}"
                )
        places = [self.columns.index(name) for name in names]
        return [tuple(row[place] for place in places) for row in self.rows.values()]


def read_labels(file: Path) -> LabelTable:
    """Raises ConfigurationError naming the line that is no row of labels."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or ())
            image = next((name for name in _IMAGE_COLUMNS if name in names), None)
            if image is None:
                raise ConfigurationError(
                    f"data: '{file}' has no column 'image_id'; its first line names the columns: "
                    "image_id, rad_id and the labels."
                )
            labels = [name for name in names if name not in (image, *_READER_COLUMNS)]
            rows: dict[str, tuple[int, ...]] = {}
            for number, row in enumerate(reader, start=2):
                found = tuple(_label(file, number, name, row[name]) for name in labels)
                before = rows.get(row[image], (0,) * len(labels))
                rows[row[image]] = tuple(max(pair) for pair in zip(before, found, strict=True))
    except FileNotFoundError:
        raise ConfigurationError(
            f"data: no file '{file}'; put the labels there, or name their file in data.train_csv "
            "and data.test_csv."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"data: '{file}' is no UTF-8 text; save it as CSV.") from error
    if not rows:
        raise ConfigurationError(f"data: '{file}' has no rows; it holds one for each image.")
    columns = tuple(_SPELLINGS.get(name, name) for name in labels)
    return LabelTable(file=file, columns=columns, rows=rows)


def known_columns(table: LabelTable, known: Sequence[str]) -> tuple[str, ...]:
    """Those of the table's columns that are known, in its order."""
    return tuple(name for name in table.columns if name in known)


def read_boxes(file: Path) -> dict[tuple[str, str], list[PixelBox]]:
    """By image and label; empty where there is no such file."""
    boxes: dict[tuple[str, str], list[PixelBox]] = defaultdict(list)
    if not file.is_file():
        return boxes
    with file.open(newline="", encoding="utf-8-sig") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):
            try:
                corners = [row[name] for name in ("x_min", "y_min", "x_max", "y_max")]
                if any(corners):  # A row "No finding" has no box.
                    left, top, right, bottom = (float(corner) for corner in corners)
                    name = _SPELLINGS.get(row["class_name"], row["class_name"])
                    boxes[row["image_id"], name].append((left, top, right, bottom))
            except (KeyError, TypeError, ValueError):
                raise ConfigurationError(
                    f"data: line {number} of '{file}' is no box; write image_id, class_name, "
                    "x_min, y_min, x_max and y_max."
                ) from None
    return boxes


def _label(file: Path, line: int, name: str, text: str | None) -> int:
    if text is not None and text.strip() in ("0", "1", "0.0", "1.0"):
        return int(float(text))
    raise ConfigurationError(
        f"data: line {line} of '{file}' has {text!r} for '{name}'; labels are 0 or 1."
    )
