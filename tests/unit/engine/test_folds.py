"""Grouped folds are a partition, of groups as well as of samples."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard_trainer.folds import group_folds


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), folds=st.integers(2, 5), size=st.integers(25, 60))
def test_each_sample_is_held_out_once_and_no_group_twice(seed: int, folds: int, size: int) -> None:
    stream = random.Random(seed)
    groups = [stream.randrange(size) for _ in range(3 * size)]
    labels = ["mel" if group % 3 == 0 else "nv" for group in groups]
    held = group_folds(labels, groups, folds, seed)
    assert sorted(index for fold in held for index in fold) == list(range(len(labels)))
    in_folds = [{groups[index] for index in fold} for fold in held]
    assert sum(len(fold) for fold in in_folds) == len(set(groups))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), folds=st.integers(2, 5))
def test_groups_of_one_give_each_class_its_share_within_one(seed: int, folds: int) -> None:
    labels = [random.Random(seed + index).choice(["mel", "nv", "nv"]) for index in range(100)]
    held = group_folds(labels, list(range(100)), folds, seed)
    for name in set(labels):
        counts = [Counter(labels[index] for index in fold)[name] for fold in held]
        assert max(counts) - min(counts) <= 1


def test_the_same_seed_gives_the_same_folds_and_another_does_not() -> None:
    labels, groups = ["a", "b"] * 30, list(range(60))
    assert group_folds(labels, groups, 3, 1) == group_folds(labels, groups, 3, 1)
    assert group_folds(labels, groups, 3, 1) != group_folds(labels, groups, 3, 2)


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="n_splits=5"):
        group_folds(["a"] * 4, [1, 1, 2, 2], 5, 0)
