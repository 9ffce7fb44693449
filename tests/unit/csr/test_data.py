import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.csr.config import XrayDataConfig
from trainyard_trainer.recipes.csr.data import XraySamples, find_xrays, hold_out
from trainyard_trainer.recipes.csr.labels import FINDINGS, VINBIGDATA, read_boxes, read_labels
from trainyard_trainer.recipes.csr.synth import write_chests
from trainyard_trainer.recipes.csr.xray import BadXray, read_xray

CONFIG = XrayDataConfig(image_size=32, validation_share=0.25)


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chests")
    write_chests(folder, train=12, test=6, size=64)
    return folder


def write_table(file: Path, *rows: list[object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return file


def write_plain(root: Path, images: int = 4) -> Path:
    """The guide's layout: labels_{train,test}.csv beside two folders of PNG."""
    for split in ("train", "test"):
        rows = [[f"{split}{n}", n % 2, 1 - n % 2] for n in range(images)]
        write_table(root / f"labels_{split}.csv", ["image_id", "Edema", "COPD"], *rows)
        (root / split).mkdir()
        for row in rows:
            pixels = np.full((8, 8), 40 * (int(str(row[1])) + 1), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"{row[0]}.png")
    return root


def change_dicom(file: Path, target: Path, **changes: object) -> Path:
    data = pydicom.dcmread(file)
    for name, value in changes.items():
        setattr(data, name, value)
    data.save_as(target)
    return target


def test_an_image_has_what_any_of_its_readers_saw(tmp_path) -> None:
    table = read_labels(
        write_table(
            tmp_path / "l.csv",
            ["image_id", "rad_id", "Edema", "ILD"],
            ["a", "R1", 0, 1],
            ["a", "R2", 1, 0],
            ["b", "R1", 0, "0.0"],
        )
    )
    assert table.rows == {"a": (1, 1), "b": (0, 0)}


def test_both_spellings_of_other_disease_are_one_label(tmp_path) -> None:
    for name in ("Other diseases", "Other disease"):
        table = read_labels(write_table(tmp_path / "l.csv", ["image_id", name], ["a", 1]))
        assert table.columns == ("Other disease",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["name"], ["a"]], "has no column 'image_id'"),
        ([["image_id", "ILD"]], "has no rows"),
        (
            [["image_id", "ILD"], ["a", "yes"]],
            "line 2 of .* has 'yes' for 'ILD'; labels are 0 or 1",
        ),
        ([["image_id", "ILD"], ["a"]], "line 2 of .* has None for 'ILD'"),
    ],
)
def test_a_bad_table_is_told_by_its_line(tmp_path, rows, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_labels(write_table(tmp_path / "l.csv", *rows))


def test_boxes_are_found_by_image_and_finding(tmp_path) -> None:
    head = ["image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max"]
    file = write_table(
        tmp_path / "b.csv",
        head,
        ["a", "R1", "ILD", 1, 2, 3, 4],
        ["a", "R2", "No finding", "", "", "", ""],
    )
    assert read_boxes(file) == {("a", "ILD"): [(1, 2, 3, 4)]}
    with pytest.raises(ConfigurationError, match=r"line 2 of .* is no box"):
        read_boxes(write_table(tmp_path / "b.csv", head, ["a", "R1", "ILD", 1, "x", 3, 4]))


def test_the_real_layout_is_read_with_all_findings_and_diagnoses(chests) -> None:
    folder = find_xrays(chests, CONFIG, seed=0)
    assert folder.concepts == FINDINGS
    assert len(folder.tasks) == 6
    sizes = {name: len(split.files) for name, split in folder.splits.items()}
    assert sizes == {"test": 6, "train": 9, "validation": 3}


def test_concepts_may_be_the_fourteen_of_vinbigdata_or_named(chests) -> None:
    fourteen = CONFIG.model_copy(update={"concepts": "vinbigdata"})
    assert find_xrays(chests, fourteen, seed=0).concepts == VINBIGDATA
    one = CONFIG.model_copy(update={"concepts": ("Cardiomegaly",)})
    assert find_xrays(chests, one, seed=0).concepts == ("Cardiomegaly",)
    wrong = CONFIG.model_copy(update={"concepts": ("Cardiomegali",)})
    with pytest.raises(ConfigurationError, match=r"no column 'Cardiomegali'; .*Cardiomegaly"):
        find_xrays(chests, wrong, seed=0)


def test_the_guides_layout_is_read_too(tmp_path) -> None:
    folder = find_xrays(write_plain(tmp_path), CONFIG, seed=0)
    assert (folder.concepts, folder.tasks) == (("Edema",), ("COPD",))
    assert len(folder.splits["test"].files) == 4


def test_a_split_is_the_same_for_the_same_seed_and_leaves_nothing_out() -> None:
    training, validation = hold_out(100, 0.1, seed=7)
    assert (training, validation) == hold_out(100, 0.1, seed=7)
    assert sorted(training + validation) == list(range(100))
    assert len(validation) == 10
    assert validation != hold_out(100, 0.1, seed=8)[1]


def test_both_photometric_interpretations_look_the_same(tmp_path, chests) -> None:
    file = next(
        f
        for f in sorted((chests / "train").iterdir())
        if pydicom.dcmread(f).PhotometricInterpretation == "MONOCHROME2"
    )
    data = pydicom.dcmread(file)
    inverted = (4095 - data.pixel_array).astype(np.uint16).tobytes()
    other = change_dicom(
        file, tmp_path / "x.dicom", PhotometricInterpretation="MONOCHROME1", PixelData=inverted
    )
    difference = read_xray(file).astype(int) - read_xray(other).astype(int)
    assert abs(difference).max() <= 1
    assert read_xray(file)[0, 0] < 60  # Air is black.


def test_the_window_of_the_file_is_applied(tmp_path, chests) -> None:
    file = next((chests / "train").iterdir())
    data = pydicom.dcmread(file)
    narrow = change_dicom(file, tmp_path / "x.dicom", WindowCenter=2048, WindowWidth=256)
    shown = read_xray(narrow)
    assert set(np.unique(shown[data.pixel_array < 1900])) <= {0, 255}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PhotometricInterpretation": "RGB"}, r"PhotometricInterpretation is RGB; an X-ray has"),
        ({"PixelData": bytes(64 * 64 * 2)}, "all pixels are 0"),
        ({"PixelData": bytes(10)}, "cannot read X-ray"),
    ],
)
def test_a_bad_dicom_is_told_by_its_file(tmp_path, chests, changes, reason) -> None:
    file = change_dicom(next((chests / "train").iterdir()), tmp_path / "x.dicom", **changes)
    with pytest.raises(BadXray, match=reason) as caught:
        read_xray(file)
    assert str(file) in str(caught.value)


def test_a_dicom_without_pixels_and_a_truncated_png_are_told_by_their_files(tmp_path) -> None:
    broken = tmp_path / "x.png"
    Image.fromarray(np.eye(64, dtype=np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:60])
    (tmp_path / "y.dicom").write_bytes(b"no dicom")
    for file in (broken, tmp_path / "y.dicom"):
        with pytest.raises(BadXray, match=f"cannot read X-ray '{file}'"):
            read_xray(file)


def test_an_image_that_is_absent_stops_the_run_or_is_skipped_and_counted(tmp_path) -> None:
    root = write_plain(tmp_path)
    (root / "train" / "train2.png").unlink()
    (root / "train" / "train3.png").write_bytes(b"no image")
    with pytest.raises(ConfigurationError, match="names image 'train2', but"):
        find_xrays(root, CONFIG, seed=0)
    folder = find_xrays(root, CONFIG.model_copy(update={"bad_files": "skip"}), seed=0)
    assert len(folder.bad.skipped) == 2
    assert sum(len(folder.splits[name].files) for name in ("train", "validation")) == 2


def test_an_empty_split_is_told(tmp_path) -> None:
    root = write_plain(tmp_path, images=1)
    with pytest.raises(ConfigurationError, match="split 'validation' has no images"):
        find_xrays(root, CONFIG, seed=0)


def test_a_sample_is_small_grey_and_knows_where_its_boxes_are(chests) -> None:
    folder = find_xrays(chests, CONFIG, seed=0)
    samples = XraySamples(folder.splits["test"], 32, cache_bytes=2**20, with_boxes=True)
    assert any(samples.split.boxes.values())
    for index in range(len(samples)):
        image, concepts, tasks, boxes = samples[index]
        assert (image.shape, image.dtype) == ((1, 32, 32), torch.uint8)
        assert (concepts.shape, tasks.shape, boxes.shape) == ((22,), (6,), (22, 16, 16))
        assert boxes.flatten(1).any(dim=1).tolist() == concepts.bool().tolist()


def test_synthetic_data_is_marked_and_the_same_for_the_same_seed(tmp_path, chests) -> None:
    write_chests(tmp_path, train=12, test=6, size=64)
    files = sorted(file.relative_to(chests) for file in chests.rglob("*") if file.is_file())
    assert Path("SYNTHETIC.json") in files
    assert all((tmp_path / f).read_bytes() == (chests / f).read_bytes() for f in files)
