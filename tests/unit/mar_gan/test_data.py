from pathlib import Path

import numpy as np
import pytest
import torch
from unit.mar_gan.slices import write_spineweb, write_syndeeplesion

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.mar_gan.data import Cache, Reading, TrainPatches, WholeImages
from trainyard_trainer.recipes.mar_gan.layouts import Scene, hold_out, list_split
from trainyard_trainer.recipes.mar_gan.reading import read_h5
from trainyard_trainer.recipes.mar_gan.synth import write_h5


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    return write_syndeeplesion(tmp_path)


@pytest.fixture
def spine(tmp_path: Path) -> Path:
    return write_spineweb(tmp_path)


def scenes_of(root: Path, split: str = "train", *, skips: bool = False) -> list[Scene]:
    return list_split(root, split, skips=skips).scenes


def reading(*, skips: bool = False, size: int = 2**20) -> Reading:
    return Reading(cache=Cache(size), bad=BadData("skip" if skips else "stop"))


def patches(scenes: list[Scene], *, skips: bool = False, per_slice: int | None = 1) -> TrainPatches:
    return TrainPatches(scenes, reading(skips=skips), side=32, per_slice=per_slice, seed=1)


def whole(scenes: list[Scene], *, skips: bool = False, per_slice: int | None = 1) -> WholeImages:
    return WholeImages(scenes, reading(skips=skips), per_slice=per_slice, threshold=0.6)


def everything(samples: TrainPatches | WholeImages) -> torch.Tensor:
    return torch.arange(len(samples))


def test_syndeeplesions_list_names_the_slices(deep: Path) -> None:
    scenes = scenes_of(deep)
    assert [one.target.relative_to(deep).as_posix() for one in scenes[:2]] == [
        "train_640geo/000000_01_02/000/gt.h5",
        "train_640geo/000000_01_02/001/gt.h5",
    ]
    assert [one.patient for one in scenes] == ["000000"] * 2 + ["000001"] * 2 + ["000002"] * 2
    assert [file.name for file in scenes[0].artefacts] == ["0.h5", "1.h5", "2.h5"]
    listed = deep / "train_640geo_dir.txt"
    listed.write_text(listed.read_text().splitlines()[-1] + "\n")
    assert [one.patient for one in scenes_of(deep)] == ["000002"]


def test_without_a_list_the_folders_are_read(deep: Path) -> None:
    before = scenes_of(deep)
    (deep / "train_640geo_dir.txt").unlink()
    assert scenes_of(deep) == before


def test_a_line_that_names_no_slice_is_told_with_its_number(deep: Path) -> None:
    listed = deep / "test_640geo_dir.txt"
    listed.write_text("test_640geo/000000_01_02/000/gt.h5\n000.h5\n")
    with pytest.raises(ConfigurationError) as caught:
        scenes_of(deep, "test")
    assert str(caught.value) == (
        f"data: '{listed}' line 2: '000.h5' does not end in <series>/<slice>/gt.h5; correct the "
        "line."
    )


def test_attenuation_is_clipped_to_one_and_mapped(deep: Path) -> None:
    scene = scenes_of(deep)[0]
    raw = read_h5(scene.artefacts[0], "ma_CT")
    assert raw.max() > 2
    assert np.array_equal(scene.read_artefact(0), np.clip(raw, 0, 1) * 2 - 1)


def test_hounsfield_units_are_clipped_and_mapped(spine: Path) -> None:
    scene = scenes_of(spine)[0]
    file = scene.artefacts[0]
    np.save(file, np.array([[-2000.0, -1000], [500, 2000]]))
    assert scene.read_artefact(0).tolist() == [[-1, -1], [0, 1]]
    assert scene.read_interpolated(0) is None
    assert scene.read_metal(0, (2, 2)) is None


def test_spineweb_is_found_from_its_root_and_from_its_split(spine: Path) -> None:
    assert scenes_of(spine) == scenes_of(spine / "train")
    assert [one.patient for one in scenes_of(spine, "test")] == ["0", "0", "1", "1", "2", "2"]


def test_a_folder_of_neither_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        scenes_of(tmp_path, "test")
    assert str(caught.value) == (
        f"data: '{tmp_path}' holds neither test_640geo/ (SynDeepLesion) nor "
        "synthesized_metal_transfer/ or test/synthesized_metal_transfer/ (SpineWeb); correct "
        "data.test_path."
    )


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train_640geo").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        scenes_of(tmp_path)
    assert str(caught.value) == f"data: split 'train' of '{tmp_path}' has no images."


def test_no_patient_is_trained_on_and_validated_with(deep: Path) -> None:
    train, validation = hold_out(scenes_of(deep), share=0.1, seed=0)
    assert len(train) + len(validation) == 6
    assert {one.patient for one in train}.isdisjoint(one.patient for one in validation)
    assert hold_out(scenes_of(deep), share=0.1, seed=0) == (train, validation)


def test_one_patient_cannot_be_split(deep: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"one patient alone, '000001'; at least 2 are"):
        hold_out([one for one in scenes_of(deep) if one.patient == "000001"], 0.1, 0)


def test_a_patch_lies_in_the_same_place_of_both_images(deep: Path) -> None:
    samples = patches(scenes_of(deep), per_slice=3)
    batch = samples.batch(everything(samples), 0)
    assert batch.artefact.shape == batch.target.shape == (18, 1, 32, 32)
    off_metal = batch.artefact < 1
    assert (batch.artefact - batch.target)[off_metal].abs().max() < 0.3
    assert torch.equal(batch.artefact, samples.batch(everything(samples), 0).artefact)
    assert not torch.equal(batch.target, samples.batch(everything(samples), 1).target)


def test_patches_do_not_depend_on_how_a_batch_is_cut(deep: Path) -> None:
    samples = patches(scenes_of(deep))
    together = samples.batch(torch.tensor([4, 1]), 2).artefact
    alone = [samples.batch(torch.tensor([index]), 2).artefact for index in (4, 1)]
    assert torch.equal(together, torch.cat(alone))


def test_every_epoch_draws_other_metals_and_all_of_them_where_none_is_left_out(deep: Path) -> None:
    (scene,) = scenes_of(deep)[:1]
    seen = []

    class Noting(Reading):
        def pair(self, scene, number):
            seen.append(number)
            return super().pair(scene, number)

    noting = Noting(cache=Cache(0), bad=BadData("stop"))
    one = TrainPatches([scene], noting, side=32, per_slice=1, seed=1)
    for epoch in range(12):
        one.batch(torch.tensor([0]), epoch)
    assert set(seen) == {0, 1, 2}
    seen.clear()
    every = TrainPatches([scene], noting, side=32, per_slice=None, seed=1)
    every.batch(everything(every), 5)
    assert sorted(seen) == [0, 1, 2]


def test_too_small_an_image_is_told_with_its_size(deep: Path) -> None:
    samples = TrainPatches(scenes_of(deep), reading(), side=64, per_slice=1, seed=1)
    with pytest.raises(ConfigurationError, match=r"gt\.h5' is 40x40; write at most 40\."):
        samples.batch(torch.tensor([0]), 0)


def test_evaluation_sees_whole_images_with_their_mask_and_interpolation(deep: Path) -> None:
    samples = whole(scenes_of(deep, "test"), per_slice=None)
    assert len(samples) == 18
    batch = samples.batch(torch.tensor([1, 5]), 0)
    assert batch.artefact.shape == batch.interpolated.shape == (2, 1, 40, 40)
    assert not batch.interpolated.isnan().any()
    # The mask of metal 1, 512 pixels wide, scaled to 40: columns 190 to 214 are 14.8 to 16.8.
    assert batch.metal[0, 0, 20].nonzero().flatten().tolist() == [15, 16]
    assert batch.is_good.tolist() == [1, 1]
    assert samples.name(1) == "000000_01_02/000/1.h5"


def test_validation_shows_the_same_metal_of_a_slice_each_time(deep: Path) -> None:
    samples = whole(scenes_of(deep))
    assert [samples.name(index)[-4:] for index in range(4)] == ["0.h5", "1.h5", "2.h5", "0.h5"]


def test_without_masks_metal_is_what_exceeds_the_threshold(spine: Path) -> None:
    samples = whole(scenes_of(spine, "test"))
    batch = samples.batch(torch.tensor([0]), 0)
    assert batch.metal.sum() == 16
    assert batch.interpolated.isnan().all()
    assert samples.name(0) == "0_0.npy"


def test_images_of_two_sizes_do_not_make_a_batch(spine: Path) -> None:
    for name in ("synthesized_metal_transfer", "no_metal"):
        np.save(spine / "test" / name / "0_1.npy", np.zeros((40, 48)))
    samples = whole(scenes_of(spine, "test"))
    with pytest.raises(ConfigurationError) as caught:
        samples.batch(torch.tensor([0, 1]), 0)
    assert str(caught.value) == (
        f"data: '{spine}/test/no_metal/0_1.npy' is 40x48 beside images of 40x40; write "
        "training.evaluation_batch_size: 1."
    )


def test_images_are_kept_up_to_a_size(deep: Path) -> None:
    scene = scenes_of(deep)[0]
    kept, none = reading(size=2 * 40 * 40 * 4), reading(size=0)
    assert kept.pair(scene, 0).target is kept.pair(scene, 1).target
    assert none.pair(scene, 0).target is not none.pair(scene, 0).target


def spoil_truncated(file: Path) -> str:
    file.write_bytes(file.read_bytes()[:200])
    return "is truncated or no HDF5 file"


def spoil_nan(file: Path) -> str:
    image = np.zeros((40, 40))
    image[3, 4] = np.nan
    write_h5(file, ma_CT=image, LI_CT=image)
    return "field 'ma_CT' has 1 values that are NaN or infinite"


def spoil_field(file: Path) -> str:
    write_h5(file, image=np.zeros((40, 40)))
    return "field 'ma_CT' is missing, it holds 'image'"


def spoil_shape(file: Path) -> str:
    write_h5(file, ma_CT=np.zeros((2, 40, 40)), LI_CT=np.zeros((40, 40)))
    return "field 'ma_CT' must be a grey image, and has 2x40x40 float32 values"


@pytest.mark.parametrize("spoil", [spoil_truncated, spoil_nan, spoil_field, spoil_shape])
def test_a_bad_file_stops_with_its_name_and_field(deep: Path, spoil) -> None:
    scene = scenes_of(deep)[0]
    what = spoil(scene.artefacts[0])
    for samples in (patches([scene], per_slice=None), whole([scene])):
        with pytest.raises(ConfigurationError) as caught:
            samples.batch(everything(samples), 0)
        text = str(caught.value)
        assert text.startswith(f"data: '{scene.artefacts[0]}': {what}")
        assert text.endswith("; replace the file, or write data.on_bad_file: skip.")


@pytest.mark.parametrize("spoil", [spoil_truncated, spoil_nan, spoil_field, spoil_shape])
def test_a_bad_file_is_skipped_where_that_is_asked_for(deep: Path, spoil) -> None:
    first, second, *_ = scenes_of(deep)
    for file in first.artefacts:
        spoil(file)
    train = patches([first, second], skips=True).batch(torch.tensor([0, 1]), 0)
    assert train.skipped.tolist() == [1, 0]
    found = whole([first, second], skips=True).batch(torch.tensor([0, 1]), 0)
    assert found.is_good.tolist() == [0, 1]
    assert not found.artefact.isnan().any()


def test_training_ends_where_nothing_is_good(deep: Path) -> None:
    scenes = scenes_of(deep)
    for scene in scenes:
        scene.target.write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"20 files in a row are bad, the last of them '"):
        patches(scenes, skips=True).batch(torch.tensor([0]), 0)


def test_a_missing_pair_stops_or_is_counted(spine: Path) -> None:
    lonely = spine / "train" / "no_metal" / "1_0.npy"
    (spine / "train" / "synthesized_metal_transfer" / "1_0.npy").unlink()
    with pytest.raises(ConfigurationError) as caught:
        scenes_of(spine)
    assert str(caught.value) == (
        f"data: '{lonely}': synthesized_metal_transfer/ has no file of this name; replace the "
        "file, or write data.on_bad_file: skip."
    )
    listing = list_split(spine, "train", skips=True)
    assert (len(listing.scenes), listing.unpaired) == (5, 1)


def test_a_slice_without_its_target_stops_or_is_counted(deep: Path) -> None:
    target = scenes_of(deep)[0].target
    target.unlink()
    with pytest.raises(ConfigurationError, match=r"/000': gt\.h5 is missing; replace the file"):
        scenes_of(deep)
    assert list_split(deep, "train", skips=True).unpaired == 1


def test_too_few_masks_are_told(deep: Path) -> None:
    np.save(deep / "testmask.npy", np.zeros((512, 512, 1), dtype=np.uint8))
    samples = whole(scenes_of(deep, "test"), per_slice=None)
    with pytest.raises(ConfigurationError, match=r"testmask\.npy': has 1 masks, and mask 1 is as"):
        samples.batch(torch.tensor([1]), 0)


def test_a_skipped_file_is_noted_once_however_often_it_is_met(deep: Path) -> None:
    first, second, *_ = scenes_of(deep)
    first.target.write_bytes(b"")
    samples = patches([first, second], skips=True)
    for epoch in (0, 1):
        samples.batch(torch.tensor([0]), epoch)
    (sentence,) = samples.reading.bad.skipped
    assert sentence.startswith(f"data: '{first.target}': is truncated or no HDF5 file")
