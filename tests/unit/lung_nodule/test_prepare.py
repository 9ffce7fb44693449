"""The guide's preprocessing and splitting, with its own flags."""

from pathlib import Path

import numpy as np
import pytest
from nodule_scans import GRID, HEADER, luna_row, write_scan

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.config import NoduleDataConfig
from trainyard_trainer.recipes.lung_nodule.prepare import main, split
from trainyard_trainer.recipes.lung_nodule.scans import find_scans, places_of
from trainyard_trainer.recipes.lung_nodule.volumes import read_volume

BALL = (6, 8, 10)


def test_the_guides_workflow_leaves_what_its_configuration_reads(tmp_path: Path) -> None:
    rows = [HEADER]
    for number in range(8):
        write_scan(tmp_path / "raw", f"scan{number}", [BALL])
        rows.append(luna_row(f"scan{number}", BALL))
    (tmp_path / "annotations.csv").write_text("\n".join(rows) + "\n")
    config = tmp_path / "train.yaml"
    config.write_text("data: {train_dir: processed/train, windows: [[-700, 0]]}\n")
    raw, processed = str(tmp_path / "raw"), str(tmp_path / "processed")
    main(["preprocess", "--input-dir", raw, "--output-dir", processed, "--config", str(config)])
    main(["split", "--data-dir", processed])
    folders = {f"{name}_dir": Path("processed") / name for name in ("train", "val", "test")}
    data = NoduleDataConfig.model_validate(folders)
    scans = find_scans(places_of(data, tmp_path), BadData("stop"))
    assert {name: len(found) for name, found in scans.items()} == {"train": 6, "val": 1, "test": 1}
    voxels, grid = read_volume(scans["test"][0].file)
    assert grid.spacing == (1.0, 1.0, 1.0)
    assert (voxels.min(), voxels.max()) == (-700, 0)
    centre = grid.to_world(np.argwhere(voxels > -300).mean(0))
    assert centre == pytest.approx(GRID.to_world(np.array(BALL, float)), abs=0.5)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (
            (0.7, 0.2, 0.2),
            "--train-ratio: 0.7, 0.2, 0.2 are not shares of train, val and test; write three "
            "numbers that add up to 1.",
        ),
        (
            (0.7, 0.15, 0.15),
            "--data-dir: '{}' has 2 volumes (.mhd), too few for three splits.",
        ),
    ],
)
def test_shares_and_folders_that_cannot_be_split_are_refused(
    tmp_path: Path, shares: tuple[float, float, float], message: str
) -> None:
    for name in "ab":
        write_scan(tmp_path, name)
    with pytest.raises(ConfigurationError) as caught:
        split(tmp_path, shares)
    assert str(caught.value) == message.format(tmp_path)


def test_an_empty_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        main(["preprocess", "--input-dir", str(tmp_path), "--output-dir", str(tmp_path / "b")])
    assert str(caught.value) == (
        f"--input-dir: '{tmp_path}' holds no volumes; put .mhd files there."
    )
