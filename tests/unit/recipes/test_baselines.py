"""The naive methods of `make recipes`, on data whose answer is known."""

import pkgutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recipes.baselines import (
    Ended,
    is_titled_rightly,
    linear_accuracy,
    linear_on_digits,
    majority_share,
    pointing_at_usual_places,
)
from recipes.examples import EXAMPLES
from recipes.on_cluster import Row, table

from trainyard_trainer import recipes
from trainyard_trainer.recipes.classification.data import ImageSplit, find_images

SHADES = {"dark": 60, "light": 200}
ROW = Row(
    recipe="csr",
    seconds=284.2,
    load=3.14,
    attempts=2,
    claim=EXAMPLES["csr"].claims[0],
    value=0.9,
    naive=0.88,
)


def write_image(file: Path, left: int, right: int) -> Path:
    """8x8 pixels, whose halves have one grey each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8), left, dtype=np.uint8)
    pixels[:, 4:] = right
    Image.fromarray(pixels).save(file)
    return file


def write_shades(root: Path) -> Path:
    for split in ("train", "val", "test"):
        for name, grey in SHADES.items():
            for number in range(3):
                write_image(root / split / name / f"{number}.png", grey + number, grey)
    return root


def ended_with(folder: Path, confusion: str) -> Ended:
    reports = folder / "reports"
    reports.mkdir()
    (reports / "confusion_matrix_test.csv").write_text(confusion)
    return Ended({}, reports, folder)


def test_a_linear_model_tells_dark_images_from_light_ones(tmp_path: Path) -> None:
    assert linear_accuracy(find_images(write_shades(tmp_path), fold=0).splits, 8) == 1.0


def test_a_linear_model_cannot_tell_whether_two_halves_differ(tmp_path: Path) -> None:
    greys = (50, 200)
    pairs = [(left, right) for left in greys for right in greys]
    files = [write_image(tmp_path / f"{left}-{right}.png", left, right) for left, right in pairs]
    labels = [int(left != right) for left, right in pairs]
    splits = {
        name: ImageSplit(name=name, files=files, labels=labels) for name in ("train", "val", "test")
    }
    assert linear_accuracy(splits, 8) <= 0.75


def test_a_linear_model_with_other_test_images_is_no_comparison(tmp_path: Path) -> None:
    write_shades(tmp_path)
    ended = ended_with(tmp_path, ",dark,light\ndark,3,0\nlight,0,3\n")
    assert linear_on_digits(ended) == 1.0
    (tmp_path / "test" / "dark" / "2.png").unlink()
    with pytest.raises(AssertionError, match="the linear model has other test images"):
        linear_on_digits(ended)


def test_the_most_frequent_class_is_counted_by_its_true_label(tmp_path: Path) -> None:
    assert majority_share(ended_with(tmp_path, ",a,b\na,1,5\nb,1,1\n")) == 0.75


def test_usual_places_hit_where_training_boxes_most_are() -> None:
    train = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    train[:2, 0, 1, 2] = True
    train[2, 0, 3, 3] = True
    train[:, 1, 0, 0] = True
    test = torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    test[0, 0, 1, 2] = True  # Hit.
    test[1, 0, 3, 3] = True  # Missed; the third image has none.
    test[0, 1, 0, 1] = True  # Missed.
    test[2, 1, 0, :2] = True  # Hit.
    assert pointing_at_usual_places(train, test) == 0.5


@pytest.mark.parametrize(
    ("title", "is_marked", "right"),
    [
        ("SYNTHETIC DATA: csr: csr", True, True),
        ("csr: csr", True, False),
        ("digits: classification", False, True),
        ("SYNTHETIC DATA: digits: classification", False, False),
    ],
)
def test_a_title_names_synthetic_data_and_no_other(
    tmp_path: Path, title: str, is_marked: bool, right: bool
) -> None:
    ended = ended_with(tmp_path, "")
    (tmp_path / "report.html").write_text(f"<html><title>{title}</title></html>")
    if is_marked:
        (tmp_path / "SYNTHETIC.json").write_text("{}")
    assert is_titled_rightly(ended) is right


def test_every_recipe_has_an_example_and_something_to_beat() -> None:
    packages = {found.name for found in pkgutil.iter_modules(recipes.__path__) if found.ispkg}
    assert {name.replace("-", "_") for name in EXAMPLES} == packages
    for example in EXAMPLES.values():
        judged = {claim.metric for claim in example.claims}
        assert judged
        assert judged == {claim.metric for claim in example.claims if claim.margin > 0}


def test_a_row_is_good_where_the_margin_is_held_after_a_kill() -> None:
    assert ROW.is_good
    assert not replace(ROW, value=0.889).is_good
    assert not replace(ROW, attempts=1).is_good
    assert table([ROW, replace(ROW, value=0.8)])[1:] == [
        "csr     284      3.1   2         test_auc  0.900  0.880  0.010   "
        "a linear model on pixels  ok",
        "csr     284      3.1   2         test_auc  0.800  0.880  0.010   "
        "a linear model on pixels  FAILED",
    ]
