import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from trainyard_trainer.digits import main, write_digits
from trainyard_trainer.recipes.classification.data import find_images

datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    assert write_digits(root) == {"train": 1257, "val": 180, "test": 360}
    return root


def test_every_digit_is_in_exactly_one_split(digits) -> None:
    files = [file.name for file in digits.glob("*/*/*.png")]
    assert sorted(files) == [f"{index:04d}.png" for index in range(1797)]


def test_splits_are_stratified(digits) -> None:
    folder = find_images(digits, fold=0)
    assert folder.classes == [str(digit) for digit in range(10)]
    totals = np.bincount(datasets.load_digits().target)
    for name, share in {"train": 0.7, "val": 0.1, "test": 0.2}.items():
        counts = np.array(folder.splits[name].counts(10))
        assert np.all(np.abs(counts - share * totals) < 2)


def test_pixels_are_scikit_learns(digits) -> None:
    source = datasets.load_digits()
    for file in list(digits.glob("test/*/*.png"))[:20]:
        index = int(file.stem)
        assert file.parent.name == str(source.target[index])
        stored = np.asarray(Image.open(file)).astype(float)
        assert np.array_equal(np.round(stored * 16 / 255), source.images[index])


def test_writing_again_gives_the_same_bytes(digits, tmp_path, capsys) -> None:
    main([str(tmp_path)])
    assert capsys.readouterr().out == (
        f"Wrote 1797 images below {tmp_path}: 1257 train, 180 val, 360 test.\n"
    )
    assert digest(tmp_path) == digest(digits)


def test_the_source_says_where_the_digits_are_from(digits) -> None:
    source = json.loads((digits / "SOURCE.json").read_text())
    assert source["licence"].startswith("CC BY 4.0")
    assert "scikit-learn" in source["from"]
    assert source["synthetic"] is False
    assert source["images"] == {"train": 1257, "val": 180, "test": 360}


def digest(root) -> str:
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.*")):
        whole.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return whole.hexdigest()
