"""LUNA16's files, and what is said of those that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from nodule_scans import GRID, HEADER, luna_row, write_luna, write_scan

from trainyard_trainer.bad_data import BadData, OnBad
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.annotations import NO_DIAMETER_MM, read_nodules
from trainyard_trainer.recipes.lung_nodule.config import NoduleDataConfig
from trainyard_trainer.recipes.lung_nodule.grid import Grid
from trainyard_trainer.recipes.lung_nodule.scans import Scan, find_scans, places_of
from trainyard_trainer.recipes.lung_nodule.volumes import (
    AIR_HU,
    VolumeCache,
    read_grid,
    read_volume,
    write_volume,
)

LUNA = NoduleDataConfig(train_subsets=(0,), val_subsets=(1,), test_subsets=(2,))
degrees = st.floats(-180, 180)


def find(root: Path, on_bad: OnBad = "stop") -> tuple[dict[str, list[Scan]], BadData]:
    bad = BadData(on_bad)
    return find_scans(places_of(LUNA, root), bad), bad


def refusal(root: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        find(root)
    return str(caught.value)


def test_a_world_coordinate_finds_its_voxel_with_spacing_and_offset(tmp_path: Path) -> None:
    write_luna(tmp_path)
    scan = find(tmp_path)[0]["train"][0]
    voxel = scan.grid.to_voxel(np.asarray(scan.nodules[0].centre))
    assert scan.grid == GRID
    assert voxel == pytest.approx((6, 8, 6), abs=1e-3)
    voxels, _ = read_volume(scan.file)
    assert (voxels[6, 8, 6], voxels[0, 0, 0]) == (50, -800)


@given(degrees, degrees, st.tuples(*[st.floats(-50, 50)] * 3))
def test_world_coordinates_are_simpleitks_for_turned_volumes(
    about_z: float, about_x: float, voxel: tuple[float, float, float]
) -> None:
    turn = sitk.Euler3DTransform()
    turn.SetRotation(np.radians(about_x), 0.0, np.radians(about_z))
    image = sitk.Image([4, 5, 6], sitk.sitkInt16)
    image.SetSpacing([0.7, 0.8, 2.5])
    image.SetOrigin([10.0, -20.0, 30.0])
    image.SetDirection(turn.GetMatrix())
    axes = np.asarray(turn.GetMatrix()).reshape(3, 3)[::-1, ::-1]
    grid = Grid(
        shape=(6, 5, 4),
        spacing=(2.5, 0.8, 0.7),
        origin=(30.0, -20.0, 10.0),
        axes=tuple(map(tuple, axes.tolist())),  # type: ignore[arg-type]
    )
    theirs = image.TransformContinuousIndexToPhysicalPoint(voxel[::-1])[::-1]
    ours = grid.to_world(np.asarray(voxel))
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert grid.to_voxel(ours) == pytest.approx(voxel, abs=1e-6)


def test_a_turned_volume_is_read_as_it_was_written(tmp_path: Path) -> None:
    axes = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    grid = Grid(shape=(2, 3, 4), spacing=(2.0, 1.0, 0.5), origin=(5.0, 6.0, 7.0), axes=axes)
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    write_volume(tmp_path / "a.mhd", voxels, grid)
    found, same = read_volume(tmp_path / "a.mhd")
    assert (found.tolist(), same, read_grid(tmp_path / "a.mhd")) == (voxels.tolist(), grid, grid)


def test_resampling_keeps_a_ball_where_it_is_in_the_world(tmp_path: Path) -> None:
    file = write_scan(tmp_path, "a", [(6, 8, 10)])
    voxels, grid = read_volume(file, (1.0, 1.0, 1.0))
    dense = np.argwhere(voxels > -300)
    centre = grid.to_world(dense.mean(0))
    assert grid.shape == (30, 11, 16)
    assert centre == pytest.approx(GRID.to_world(np.array([6.0, 8, 10])), abs=0.5)


@pytest.mark.parametrize("most_bytes", [0, 10**6])
def test_a_box_beyond_the_volume_is_air_there(tmp_path: Path, most_bytes: int) -> None:
    file = write_scan(tmp_path, "a", [(0, 0, 0)])
    box = VolumeCache(most_bytes, None).region(file, GRID, [-2, -3, -1], [4, 5, 3])
    voxels, _ = read_volume(file)
    assert box[2:, 3:, 1:].tolist() == voxels[:2, :2, :2].tolist()
    assert (
        (box[:2] == AIR_HU).all() and (box[:, :3] == AIR_HU).all() and (box[..., 0] == AIR_HU).all()
    )


def test_a_cache_holds_no_more_than_it_may(tmp_path: Path) -> None:
    files = [write_scan(tmp_path, name) for name in "abc"]
    cache = VolumeCache(2 * 4 * int(np.prod(GRID.shape)), None)
    first = cache.whole(files[0])
    assert cache.whole(files[0]) is first
    for file in files[1:]:
        cache.whole(file)
    assert cache.whole(files[0]) is not first


def test_irrelevant_findings_come_from_their_own_file(tmp_path: Path) -> None:
    write_luna(tmp_path)
    row = luna_row("scan0", (3, 3, 3), -1)
    (tmp_path / "annotations_excluded.csv").write_text(f"{HEADER}\n{row}\n")
    (one,) = find(tmp_path)[0]["train"][0].irrelevant
    assert one.diameter == NO_DIAMETER_MM


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scan_id,x,y,z,diameter,malignancy\na,1,2,3,4,1\n", True),
        ('scan_id,coordinates,diameter,malignancy\na,"[1, 2, 3]",4,0\n', False),
        ("scan_id,coordinates,diameter,malignancy\na,1.0 2.0 3.0,4,\n", None),
        ("scan_id,coordX,coordY,coordZ,diameter_mm,malignancy\na,1,2,3,4,5\n", True),
        ("scan_id,x,y,z,diameter,malignancy\na,1,2,3,4,3\n", None),
        ("scan_id,x,y,z,diameter,malignancy\na,1,2,3,4,2\n", False),
    ],
)
def test_the_guides_csv_is_read_with_its_malignancy(
    tmp_path: Path, text: str, expected: bool | None
) -> None:
    (tmp_path / "a.csv").write_text(text)
    (nodule,) = read_nodules(tmp_path / "a.csv")["a"]
    assert (nodule.centre, nodule.diameter) == ((3.0, 2.0, 1.0), 4.0)
    assert nodule.is_malignant is expected


def test_luna16_has_no_malignancy(tmp_path: Path) -> None:
    write_luna(tmp_path)
    nodules = read_nodules(tmp_path / "annotations.csv")
    assert {one.is_malignant for found in nodules.values() for one in found} == {None}


def break_file(root: Path, kind: str) -> str:
    """Spoil the training scan; what is said of it."""
    file = root / "subset0" / "scan0.mhd"
    raw, volume = file.with_suffix(".raw"), f"data: volume '{file}'"
    if kind == "truncated":
        raw.write_bytes(raw.read_bytes()[:100])
        return (
            f"{volume} is truncated: 'scan0.raw' has 100 of 7680 bytes; replace it or take it out."
        )
    if kind == "no voxels":
        raw.unlink()
        return f"{volume} has no voxels: 'scan0.raw' is not beside it; replace it or take it out."
    if kind == "NaN":
        voxels = np.zeros(GRID.shape, dtype=np.float32)
        voxels[1, 2, 3] = np.nan
        write_volume(file, voxels, GRID)
        return f"{volume} holds 1 voxels that are NaN or infinite; replace it or take it out."
    annotations = root / "annotations.csv"
    uid, voxel = ("scan0", (6, 8, 60)) if kind == "outside" else ("ghost", (1, 1, 1))
    with annotations.open("a") as stream:
        stream.write(luna_row(uid, voxel) + "\n")
    if kind == "outside":
        return (
            f"{annotations}, line 5: the nodule at x 138.5, y -144.4, z -285 mm lies outside of "
            f"volume '{file}'; correct its coordinates or take it out."
        )
    folders = ", ".join(f"'{root / f'subset{number}'}'" for number in range(3))
    return (
        f"{annotations}, line 5: scan 'ghost' has no volume in {folders}; add it or take its rows "
        "out."
    )


KINDS = ["truncated", "no voxels", "NaN", "outside", "no image"]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_data_stops_with_one_sentence_that_names_the_file(tmp_path: Path, kind: str) -> None:
    expected = break_file(write_luna(tmp_path), kind)
    assert refusal(tmp_path) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_bad_data_is_skipped_and_counted_where_that_is_set(tmp_path: Path, kind: str) -> None:
    write_luna(tmp_path)
    write_scan(tmp_path / "subset0", "spare", [(6, 8, 6)])
    with (tmp_path / "annotations.csv").open("a") as stream:
        stream.write(luna_row("spare", (6, 8, 6)) + "\n")
    expected = break_file(tmp_path, kind).replace("line 5", "line 6")
    scans, bad = find(tmp_path, "skip")
    assert bad.skipped == [expected]
    kept = ["spare"] if kind in KINDS[:3] else ["scan0", "spare"]
    assert [scan.uid for scan in scans["train"]] == kept


def test_an_unreadable_header_is_refused(tmp_path: Path) -> None:
    write_luna(tmp_path)
    file = tmp_path / "subset0" / "scan0.mhd"
    file.write_text("This is no header.\n")
    assert refusal(tmp_path).startswith(f"data: volume '{file}' has no readable header (")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    write_luna(tmp_path)
    for file in (tmp_path / "subset1").iterdir():
        file.unlink()
    (tmp_path / "annotations.csv").write_text(f"{HEADER}\n{luna_row('scan0', (6, 8, 6))}\n")
    assert refusal(tmp_path) == (
        f"data: the val split has no scans in '{tmp_path / 'subset1'}'; put volumes (.mhd with "
        ".raw) there."
    )


def test_a_split_without_nodules_is_refused(tmp_path: Path) -> None:
    write_luna(tmp_path)
    (tmp_path / "annotations.csv").write_text(f"{HEADER}\n{luna_row('scan0', (6, 8, 6))}\n")
    assert refusal(tmp_path) == (
        f"data: the val split in '{tmp_path / 'subset1'}' has no nodule of "
        f"'{tmp_path / 'annotations.csv'}'; there is nothing to find."
    )


def test_an_absent_folder_file_or_column_is_named(tmp_path: Path) -> None:
    annotations = tmp_path / "annotations.csv"
    assert refusal(tmp_path) == (
        f"data.annotations: no file '{annotations}'; correct the path, or put the CSV there."
    )
    annotations.write_text("scan_id,x,y,diameter\n")
    assert refusal(tmp_path) == (
        f"data.annotations: '{annotations}' has no column 'coordz'; its header is scan_id, x, y, "
        "diameter."
    )
    annotations.write_text(f"{HEADER}\na,1,2,far,4\n")
    assert refusal(tmp_path) == f"{annotations}, line 2: column 'coordZ' is 'far'; write a number."
    annotations.write_text(f"{HEADER}\n")
    assert refusal(tmp_path) == (
        f"data: no folder '{tmp_path / 'subset0'}' for the train split; correct data.train_dir or "
        "data.train_subsets."
    )


def test_the_guides_folders_are_read_below_the_data(tmp_path: Path) -> None:
    rows = [HEADER]
    for name in ("train", "val"):
        write_scan(tmp_path / "processed" / name, f"{name}1", [(6, 8, 6)])
        rows.append(luna_row(f"{name}1", (6, 8, 6)))
    (tmp_path / "annotations.csv").write_text("\n".join(rows) + "\n")
    config = NoduleDataConfig(
        train_dir=Path("processed/train"), val_dir=Path("processed/val"), excluded=None
    )
    scans = find_scans(places_of(config, tmp_path), BadData("stop"))
    found = {split: [scan.uid for scan in one] for split, one in scans.items()}
    assert found == {"train": ["train1"], "val": ["val1"]}
