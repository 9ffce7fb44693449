import errno

import numpy as np
import pytest
import torch
from classification_images import write_folders, write_image
from PIL import Image

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.data import ImageBatches, find_images, load_image
from trainyard_trainer.recipes.classification.synth import write_shapes


def samples(root, cache_bytes: int = 2**20) -> ImageBatches:
    return ImageBatches(find_images(root, fold=0).splits["train"], 8, cache_bytes)


def message(root, fold: int = 0) -> str:
    with pytest.raises(ConfigurationError) as caught:
        find_images(root, fold)
    return str(caught.value).replace(str(root), "DIR")


def test_folders_are_listed_in_the_same_order_everywhere(tmp_path) -> None:
    folder = find_images(write_folders(tmp_path), fold=0)
    assert folder.classes == ["ants", "bees"]
    assert folder.splits["val"].labels == [0, 0, 0, 1, 1, 1]
    assert [str(file.relative_to(tmp_path)) for file in folder.splits["val"].files[:4]] == [
        "val/ants/0.png",
        "val/ants/1.png",
        "val/ants/2.png",
        "val/bees/0.png",
    ]


def test_index_files_choose_the_fold_and_share_the_test_set(tmp_path) -> None:
    write_shapes(tmp_path, images_per_class=10, size=16)
    first, second = find_images(tmp_path, fold=0), find_images(tmp_path, fold=1)
    assert first.classes == ["disc", "frame", "triangle"]
    assert first.splits["test"] == second.splits["test"]
    assert not set(first.splits["val"].files) & set(second.splits["val"].files)


def test_a_fold_that_was_not_made_is_an_absent_index_file(tmp_path) -> None:
    write_shapes(tmp_path, images_per_class=10, size=16)
    assert message(tmp_path, fold=5) == (
        "Index file not found: DIR/splits/fold_5_train.txt; generate splits first, or correct "
        "data.fold."
    )


def test_a_folder_without_images_is_told_what_to_hold(tmp_path) -> None:
    assert message(tmp_path) == (
        "data.path: 'DIR' holds neither train/ nor raw/; put images at train/<class>/ beside "
        "val/ and test/, or at raw/<class>/ with index files in splits/."
    )


def test_a_class_that_is_absent_from_a_split_is_named(tmp_path) -> None:
    write_folders(tmp_path)
    for file in (tmp_path / "val" / "bees").iterdir():
        file.unlink()
    assert message(tmp_path) == (
        "data: split 'val' of 'DIR' has no image of class 'bees'; add one, generate splits with "
        "fewer folds, or take the class out."
    )


def test_a_class_that_is_not_trained_on_is_named(tmp_path) -> None:
    write_image(write_folders(tmp_path) / "test" / "wasps" / "0.png")
    assert message(tmp_path) == (
        "data: DIR/test has class 'wasps', which train/ has not; add its training images, or take "
        "it out."
    )


def test_an_empty_split_is_named(tmp_path) -> None:
    for file in write_folders(tmp_path).glob("test/*/*"):
        file.unlink()
    assert message(tmp_path) == "data: split 'test' of 'DIR' has no images."


def test_an_index_line_outside_the_classes_is_named(tmp_path) -> None:
    write_shapes(tmp_path, images_per_class=10, size=16)
    (tmp_path / "splits" / "test.txt").write_text("hexagon/0.png\n")
    assert message(tmp_path) == (
        "data: test.txt names 'hexagon/0.png', but raw/ has no class 'hexagon'; generate splits "
        "again."
    )


@pytest.mark.parametrize("content", [b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_an_unreadable_image_is_named(tmp_path, content: bytes) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"cannot read image '{file}'"):
        load_image(file, 8)


def test_a_truncated_image_is_named(tmp_path) -> None:
    write_image(file := tmp_path / "cut.png", size=64)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ConfigurationError, match=f"cannot read image '{file}'"):
        load_image(file, 8)


def test_a_failing_disk_is_not_taken_for_a_bad_image(tmp_path, monkeypatch) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        load_image(tmp_path / "any.png", 8)


def test_the_shorter_side_is_scaled_and_the_centre_cut_out(tmp_path) -> None:
    stripes = np.zeros((8, 24, 3), dtype=np.uint8)
    stripes[:, 8:16, 0] = 255
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    assert torch.equal(load_image(tmp_path / "wide.png", 8)[0], torch.full((8, 8), 255).byte())


def test_a_batch_is_the_stack_of_its_samples_cached_or_not(tmp_path) -> None:
    root = write_folders(tmp_path)
    indices = torch.tensor([5, 0, 3])
    for cache_bytes in (0, 2**20):
        split = samples(root, cache_bytes)
        images, labels = split.batch(indices, 0)
        singles = [split[index] for index in indices.tolist()]
        assert torch.equal(images, torch.stack([image for image, _ in singles]))
        assert labels.tolist() == [1, 0, 1] == [int(label) for _, label in singles]
        assert (images.shape, images.dtype) == ((3, 3, 8, 8), torch.uint8)


def test_a_cached_image_is_read_from_disk_once(tmp_path) -> None:
    split = samples(write_folders(tmp_path))
    before = split.batch(torch.arange(6), 0)[0]
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    assert torch.equal(split.batch(torch.arange(6), 0)[0], before)


def test_images_are_read_only_when_they_are_asked_for(tmp_path) -> None:
    root = write_folders(tmp_path)
    (root / "train" / "bees" / "2.png").write_bytes(b"broken")
    split = samples(root)
    split.batch(torch.tensor([0, 1]), 0)
    with pytest.raises(ConfigurationError, match=r"2\.png"):
        split.batch(torch.tensor([5]), 0)


def test_folders_are_divided_into_folds_that_share_the_test_set(tmp_path) -> None:
    write_folders(tmp_path, images=7)
    folders = [find_images(tmp_path, fold, folds=4) for fold in range(4)]
    held = [file for folder in folders for file in folder.splits["val"].files]
    pooled = [*(tmp_path / "train").glob("*/*"), *(tmp_path / "val").glob("*/*")]
    assert sorted(held) == sorted(pooled)
    for folder in folders:
        assert folder.splits["test"] == folders[0].splits["test"]
        assert sorted(folder.splits["train"].files + folder.splits["val"].files) == sorted(pooled)
        assert all(3 <= count <= 4 for count in folder.splits["val"].counts(2))


def test_a_fold_of_one_split_asks_for_their_number(tmp_path) -> None:
    assert message(write_folders(tmp_path), fold=1) == (
        "data.fold: is 1, but 'DIR' has the one split of train/ and val/; set data.folds to have "
        "both divided into folds."
    )


def test_folds_have_to_be_as_many_as_index_files(tmp_path) -> None:
    write_shapes(tmp_path, images_per_class=10, size=16)
    with pytest.raises(ConfigurationError, match=r"lists 5 folds; write 5, or generate splits"):
        find_images(tmp_path, 0, folds=4)
    assert find_images(tmp_path, 1, folds=5) == find_images(tmp_path, 1)
