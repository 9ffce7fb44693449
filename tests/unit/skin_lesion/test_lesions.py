from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skin_images import COLUMNS, write_set, write_table

from trainyard_trainer.bad_data import BadData, OnBad
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.skin_lesion.config import SkinDataConfig
from trainyard_trainer.recipes.skin_lesion.data import find_splits
from trainyard_trainer.recipes.skin_lesion.lesions import (
    DIAGNOSES,
    Photo,
    read_photos,
    split_lesions,
    subsample,
)


def read(root: Path, on_bad: OnBad = "stop") -> tuple[list[Photo], list[str]]:
    bad = BadData(on_bad)
    return read_photos(root, bad), bad.skipped


def photos_of(counts: dict[str, int]) -> list[Photo]:
    """A lesion of k images for the k-th lesion modulo 3."""
    return [
        Photo(lesion=f"{name}{number}", diagnosis=name, file=Path(f"{name}{number}.{view}"))
        for name, count in counts.items()
        for number in range(count)
        for view in range(1 + number % 3)
    ]


counts_of_lesions = st.dictionaries(st.sampled_from(DIAGNOSES), st.integers(3, 60), min_size=2)


@settings(max_examples=50, deadline=None)
@given(counts_of_lesions, st.integers(0, 10))
def test_no_lesion_is_in_two_splits_and_every_diagnosis_is_in_each(
    counts: dict[str, int], seed: int
) -> None:
    photos = photos_of(counts)
    split_of = split_lesions(photos, 0.15, 0.2, seed)
    assert split_of.keys() == {photo.lesion for photo in photos}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for lesion, split in split_of.items():
        found[lesion.rstrip("0123456789")][split] += 1
    for name, count in counts.items():
        assert found[name]["val"] == max(1, round(0.15 * count))
        assert found[name]["test"] == max(1, round(0.2 * count))
        assert found[name]["train"] >= 1


def test_splits_are_a_function_of_the_seed_alone() -> None:
    photos = photos_of({"mel": 40, "nv": 60})
    assert split_lesions(photos, 0.1, 0.1, 3) == split_lesions(photos[::-1], 0.1, 0.1, 3)
    assert split_lesions(photos, 0.1, 0.1, 3) != split_lesions(photos, 0.1, 0.1, 4)


def test_subsample_takes_whole_lesions_and_keeps_shares() -> None:
    photos = photos_of({"mel": 40, "nv": 160})
    kept = subsample(photos, 0.1, 0, stratified=True)
    lesions = Counter(lesion.rstrip("0123456789") for lesion in {photo.lesion for photo in kept})
    assert lesions == {"mel": 4, "nv": 16}
    assert {p.file for p in kept} == {
        p.file for p in photos if p.lesion in {photo.lesion for photo in kept}
    }
    assert len({photo.lesion for photo in subsample(photos, 0.1, 0, stratified=False)}) == 20
    least = subsample(photos, 0.001, 0, stratified=True)
    assert Counter(name[:2] for name in {photo.lesion for photo in least}) == {"me": 3, "nv": 3}


def test_table_is_read_with_its_images(tmp_path: Path) -> None:
    photos, skipped = read(write_set(tmp_path))
    assert (len(photos), skipped) == (24, [])
    assert photos[0] == Photo(
        lesion="HAM_0", diagnosis="mel", file=tmp_path / "images" / "ISIC_00000.jpg"
    )


def spoil(root: Path, how: str) -> Path:
    file = root / "images" / "ISIC_00000.jpg"
    if how == "gone":
        file.unlink()
    elif how == "cut off":
        file.write_bytes(file.read_bytes()[:-80])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "no JPEG":
        file.write_bytes(b"GIF89a....")
    return file


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("gone", "there is no image '{file}'; add it, or take it out of the list."),
        ("cut off", "image '{file}' is cut off; fetch it again."),
        ("empty", "image '{file}' is empty; fetch it again."),
        ("no JPEG", "image '{file}' is no JPEG; fetch it again."),
    ],
)
def test_bad_image_stops_or_is_skipped_and_counted(tmp_path: Path, how: str, what: str) -> None:
    file = spoil(write_set(tmp_path), how)
    sentence = f"data: {tmp_path}/metadata/HAM10000_metadata.csv, line 2: {what.format(file=file)}"
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path)
    assert str(caught.value) == sentence
    photos, skipped = read(tmp_path, "skip")
    assert (len(photos), skipped) == (23, [sentence])


def test_unknown_diagnosis_and_doubled_image_are_named(tmp_path: Path) -> None:
    write_set(tmp_path)
    row = ("HAM_0", "ISIC_00000", "mel", "", "", "", "")
    write_table(tmp_path, [row, ("HAM_1", "ISIC_00010", "melanoma", "", "", "", ""), row])
    _, skipped = read(tmp_path, "skip")
    table = tmp_path / "metadata" / "HAM10000_metadata.csv"
    assert skipped == [
        f"data: {table}, line 3: dx is 'melanoma'; it must be one of akiec, bcc, bkl, df, mel, nv, "
        "vasc.",
        f"data: {table}, line 4: image 'ISIC_00000' is there twice; take one row out.",
    ]


def test_absent_table_and_absent_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"data.path: no file '{tmp_path}/metadata/HAM10000_metadata.csv'; put HAM10000's table "
        f"there and its images at '{tmp_path}/images', or let `trainyard synth skin-lesion` draw "
        "some."
    )
    write_table(tmp_path, [], [name for name in COLUMNS if name != "dx"])
    with pytest.raises(ConfigurationError, match=r"csv has no column 'dx'; it needs lesion_id,"):
        read(tmp_path)


def test_empty_split_and_absent_class_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path / "few", lesions=2)
    with pytest.raises(ConfigurationError) as caught:
        find_splits(tmp_path / "few", SkinDataConfig(), 2)
    assert str(caught.value) == (
        "data: split 'test' has no images; raise data.subsample_percentage, or add lesions."
    )
    write_set(tmp_path / "one", diagnoses=("nv", "bkl"))
    with pytest.raises(ConfigurationError) as caught:
        find_splits(tmp_path / "one", SkinDataConfig(), 2)
    assert str(caught.value) == (
        "data: split 'train' has no image of class 'malignant'; add lesions of it, raise "
        "data.subsample_percentage, or write another data.split_seed."
    )


def test_folds_are_a_partition_of_the_lesions_that_are_not_tested_on(tmp_path: Path) -> None:
    write_set(tmp_path, lesions=20)
    found = [find_splits(tmp_path, SkinDataConfig(folds=5, fold=n), 2).splits for n in range(5)]
    held = [file for splits in found for file in splits["val"].files]
    everything = set((tmp_path / "images").iterdir())
    assert len(held) == len(set(held))
    assert set(held) == everything - set(found[0]["test"].files)
    for splits in found:
        assert splits["test"] == found[0]["test"]
        lesions = {name: {file.name[:9] for file in one.files} for name, one in splits.items()}
        assert not lesions["train"] & lesions["val"]
        assert splits["val"].counts(2) in ([6, 6], [6, 8], [8, 6], [8, 8])


def test_more_folds_than_lesions_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, lesions=3)
    with pytest.raises(ConfigurationError, match=r"data.folds: 4 lesions do not make 9 folds"):
        find_splits(tmp_path, SkinDataConfig(folds=9), 2)


def test_a_fold_needs_their_number() -> None:
    with pytest.raises(ValueError, match="fold 1 needs folds, their number; such as folds: 5"):
        SkinDataConfig(fold=1)
    with pytest.raises(ValueError, match="fold 5 does not exist; folds: 5 are numbered from 0"):
        SkinDataConfig(fold=5, folds=5)
