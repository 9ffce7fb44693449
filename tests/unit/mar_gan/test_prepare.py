from pathlib import Path

import numpy as np
import pytest
from unit.mar_gan.slices import write_spineweb, write_syndeeplesion

from trainyard_trainer.recipes.mar_gan.layouts import list_split
from trainyard_trainer.recipes.mar_gan.prepare import main


def prepare(dataset: str, output: Path, *more: object) -> None:
    main(["--dataset", dataset, "--output_dir", str(output), *map(str, more)])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out: str = capsys.readouterr().out
    return out


def test_syndeeplesion_is_checked_listed_and_linked(tmp_path: Path, capsys) -> None:
    raw, output = write_syndeeplesion(tmp_path / "raw"), tmp_path / "out"
    (raw / "train_640geo_dir.txt").unlink()
    prepare("syndeeplesion", output, "--input_dir", raw)
    assert said(capsys) == f"Prepared {output}: 6 train, 6 test, 0 left out.\n"
    scenes = list_split(output, "train", skips=False).scenes
    before = list_split(raw, "train", skips=False).scenes
    assert [one.target.relative_to(output) for one in scenes] == [
        one.target.relative_to(raw) for one in before
    ]
    assert scenes[0].target.samefile(before[0].target)
    assert scenes[0].masks == output / "trainmask.npy"
    prepare("syndeeplesion", output, "--input_dir", raw)  # Again changes nothing.
    assert list_split(output, "train", skips=False).scenes == scenes


def test_a_bad_slice_is_told_or_left_out(tmp_path: Path, capsys) -> None:
    raw, output = write_syndeeplesion(tmp_path / "raw"), tmp_path / "out"
    first, second, *_ = list_split(raw, "test", skips=False).scenes
    first.target.write_bytes(b"")
    second.artefacts[1].write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        prepare("syndeeplesion", output, "--input_dir", raw)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: data: '{first.target}': is truncated or no HDF5 file")
    assert error.endswith("replace the file, or add --skip_bad_files.\n")
    prepare("syndeeplesion", output, "--input_dir", raw, "--skip_bad_files")
    assert said(capsys) == f"Prepared {output}: 6 train, 5 test, 2 left out.\n"
    assert len(list_split(output, "test", skips=False).scenes[0].artefacts) == 2


def test_spineweb_pairs_are_split_by_patient(tmp_path: Path, capsys) -> None:
    raw = write_spineweb(tmp_path / "raw") / "train"
    output = tmp_path / "out"
    folders = (
        "--artifact_dir",
        raw / "synthesized_metal_transfer",
        "--clean_dir",
        raw / "no_metal",
    )
    prepare("spineweb", output, *folders, "--test_share", 0.3)
    assert said(capsys) == f"Prepared {output}: 4 train, 2 test, 0 left out.\n"
    patients = [
        {one.patient for one in list_split(output, split, skips=False).scenes}
        for split in ("train", "test")
    ]
    assert patients[0].isdisjoint(patients[1])
    np.save(raw / "no_metal" / "9_9.npy", np.zeros((4, 4)))
    with pytest.raises(SystemExit):
        prepare("spineweb", output, *folders)
    assert "9_9.npy': '" in capsys.readouterr().err


def test_what_a_data_set_needs_is_asked_for(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        prepare("spineweb", tmp_path, "--input_dir", tmp_path)
    assert "--artifact_dir: is needed for --dataset spineweb" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        prepare("syndeeplesion", tmp_path, "--input_dir", tmp_path / "absent")
    assert f"--input_dir: there is no folder '{tmp_path}/absent'" in capsys.readouterr().err
