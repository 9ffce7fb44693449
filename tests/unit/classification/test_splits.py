from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.splits import (
    Partition,
    partition_folds,
    partition_holdout,
    read_index_file,
    write_index_files,
)

LABELS = st.lists(st.sampled_from(["ants", "bees", "wasps"]), min_size=1, max_size=120)
SEEDS = st.integers(min_value=0, max_value=2**32)


def class_counts(labels: list[str], indices: list[int]) -> Counter[str]:
    return Counter(labels[index] for index in indices)


@settings(max_examples=50, deadline=None)
@given(labels=LABELS, folds=st.integers(2, 7), test_share=st.floats(0, 0.9), seed=SEEDS)
def test_every_image_outside_the_test_set_is_validated_on_exactly_once(
    labels: list[str], folds: int, test_share: float, seed: int
) -> None:
    partition = partition_folds(labels, folds, test_share, seed)
    vals = [index for fold in partition.folds for index in fold.val]
    assert sorted(vals + partition.test) == list(range(len(labels)))
    for fold in partition.folds:
        assert sorted(fold.train + fold.val + partition.test) == list(range(len(labels)))


@settings(max_examples=50, deadline=None)
@given(labels=LABELS, folds=st.integers(2, 7), seed=SEEDS)
def test_folds_differ_by_at_most_one_image_in_size_and_in_each_class(
    labels: list[str], folds: int, seed: int
) -> None:
    vals = [fold.val for fold in partition_folds(labels, folds, 0.2, seed).folds]
    sizes = [len(val) for val in vals]
    assert max(sizes) - min(sizes) <= 1
    for name in set(labels):
        counts = [class_counts(labels, val)[name] for val in vals]
        assert max(counts) - min(counts) <= 1


@settings(max_examples=50, deadline=None)
@given(labels=LABELS.filter(lambda labels: len(labels) >= 4), seed=SEEDS)
def test_holdout_keeps_every_class_within_one_image_of_its_share(
    labels: list[str], seed: int
) -> None:
    partition = partition_holdout(labels, (0.7, 0.1, 0.2), seed)
    for name, total in Counter(labels).items():
        share = len(partition.test) / len(labels)
        assert abs(class_counts(labels, partition.test)[name] - share * total) <= 1


def test_another_seed_gives_another_partition_and_the_same_seed_the_same() -> None:
    labels = ["ants", "bees"] * 30
    assert partition_folds(labels, 5, 0.2, seed=1) == partition_folds(labels, 5, 0.2, seed=1)
    assert partition_folds(labels, 5, 0.2, seed=1) != partition_folds(labels, 5, 0.2, seed=2)


def test_one_more_class_leaves_the_order_within_the_others_alone() -> None:
    alone = partition_holdout(["ants"] * 20, (0.5, 0.25, 0.25), seed=3).test
    beside = partition_holdout(["ants"] * 20 + ["bees"] * 20, (0.5, 0.25, 0.25), seed=3).test
    assert alone == [index for index in beside if index < 20]


@pytest.mark.parametrize("ratio", [(0.7, 0.2, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_shares_that_make_no_split_are_refused(ratio: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigurationError, match="three numbers that add up to 1"):
        partition_holdout(["ants"] * 10, ratio, seed=0)


def test_a_holdout_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="of 2 images 1 for val and 1 for test leave none"):
        partition_holdout(["ants", "bees"], (0.7, 0.1, 0.2), seed=0)


def test_one_fold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 2 folds"):
        partition_folds(["ants"] * 10, 1, 0.2, seed=0)


def test_index_files_are_written_one_path_a_line_and_read_back(tmp_path) -> None:
    paths = [f"ants/{number}.png" for number in range(10)]
    partition = partition_folds(["ants"] * 10, 2, 0.2, seed=0)
    written = write_index_files(tmp_path, paths, partition)
    names = ["test", "fold_0_train", "fold_0_val", "fold_1_train", "fold_1_val"]
    assert written == [tmp_path / "splits" / f"{name}.txt" for name in names]
    again = Partition(
        test=[paths.index(line) for line in read_index_file(tmp_path, "test")],
        folds=partition.folds,
    )
    assert again == partition


def test_an_absent_index_file_is_named_in_the_guides_words(tmp_path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_index_file(tmp_path, "fold_0_train")
    assert str(caught.value) == (
        f"Index file not found: {tmp_path}/splits/fold_0_train.txt; generate splits first, or "
        "correct data.fold."
    )
