"""Which image belongs to train, val and test: pure functions of labels and a seed, and their files.

`splits/test.txt` and `splits/fold_{i}_{train,val}.txt` hold one path below `raw/` a line. The test
set is held out once and shared by all folds; the folds are a true partition of the rest, so that
every other image is validated on exactly once.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard_trainer.errors import ConfigurationError

SPLITS_DIRECTORY = "splits"
RAW_DIRECTORY = "raw"


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Indices into the labels that were split; each list is sorted."""

    train: list[int]
    val: list[int]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One held-out test set and the folds over everything else."""

    test: list[int]
    folds: list[Fold]


def partition_holdout(
    labels: Sequence[str], shares: tuple[float, float, float], seed: int
) -> Partition:
    """One fold, with train, val and test in the given shares, which add up to 1.

    Test and val hold at least their share, rounded up, each stratified by label.
    """
    train_share, val_share, test_share = shares
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or not train_share:
        raise ConfigurationError(
            f"ratio: {train_share} {val_share} {test_share} are not shares of train, val and test; "
            "write three numbers that add up to 1, such as .7 .15 .15."
        )
    order = _stratified_order(labels, seed)
    test_size, val_size = _size(order, test_share), _size(order, val_share)
    if test_size + val_size >= len(order):
        raise ConfigurationError(
            f"ratio: of {len(order)} images {val_size} for val and {test_size} for test leave "
            "none to train on; add images."
        )
    test = _spread(order, test_size)
    rest = _without(order, test)
    val = _spread(rest, val_size)
    return Partition(
        test=sorted(test), folds=[Fold(train=sorted(_without(rest, val)), val=sorted(val))]
    )


def partition_folds(labels: Sequence[str], folds: int, test_share: float, seed: int) -> Partition:
    """Hold out a stratified test set, then deal the rest over `folds` stratified folds.

    Fold sizes differ by at most one image, and so do the counts of each class.
    """
    if folds < 2 or not 0 <= test_share < 1:
        raise ConfigurationError(
            f"split: {folds} folds beside a test share of {test_share} cannot be made; write at "
            "least 2 folds and a share in [0, 1)."
        )
    order = _stratified_order(labels, seed)
    test = _spread(order, _size(order, test_share))
    rest = _without(order, test)
    # The rest is ordered by class, so every folds-th of it is a stratified share.
    vals = [rest[fold::folds] for fold in range(folds)]
    return Partition(
        test=sorted(test),
        folds=[Fold(train=sorted(_without(rest, val)), val=sorted(val)) for val in vals],
    )


def index_file(data_dir: Path, name: str) -> Path:
    """Where one list of images is kept; name is `test`, `fold_0_train` and so on."""
    return data_dir / SPLITS_DIRECTORY / f"{name}.txt"


def write_index_files(data_dir: Path, paths: Sequence[str], partition: Partition) -> list[Path]:
    """Write the lists of `partition` over `paths`, which are relative to `raw/`."""
    return write_lists(data_dir / SPLITS_DIRECTORY, paths, partition)


def write_lists(directory: Path, paths: Sequence[str], partition: Partition) -> list[Path]:
    """`write_index_files` into any folder."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, indices in _named_lists(partition):
        file = directory / f"{name}.txt"
        file.write_text("".join(f"{paths[index]}\n" for index in indices), encoding="utf-8")
        written.append(file)
    return written


def read_index_file(data_dir: Path, name: str) -> list[str]:
    """The paths below `raw/` of one list. Raises ConfigurationError where the file is absent."""
    file = index_file(data_dir, name)
    if not file.is_file():
        raise ConfigurationError(
            f"Index file not found: {file}; generate splits first, or correct data.fold."
        )
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def count_folds(data_dir: Path) -> int:
    """How many folds have a list."""
    return len(list((data_dir / SPLITS_DIRECTORY).glob("fold_*_val.txt")))


def _named_lists(partition: Partition) -> Iterator[tuple[str, list[int]]]:
    yield "test", partition.test
    for number, fold in enumerate(partition.folds):
        yield f"fold_{number}_train", fold.train
        yield f"fold_{number}_val", fold.val


def _stratified_order(labels: Sequence[str], seed: int) -> list[int]:
    """All indices, class after class, shuffled within each."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        by_label[label].append(index)
    order: list[int] = []
    for label in sorted(by_label):
        # A stream per class: another class's images do not change this one's order.
        random.Random(f"{seed}/{label}").shuffle(by_label[label])
        order += by_label[label]
    return order


def _size(order: Sequence[int], share: float) -> int:
    """A share in images, rounded up, but not because 0.2 x 5 comes out above 1."""
    return math.ceil(round(len(order) * share, 6))


def _spread(order: Sequence[int], size: int) -> list[int]:
    """`size` members at even distances: of an order by class, a stratified share."""
    return [order[(2 * k + 1) * len(order) // (2 * size)] for k in range(size)]


def _without(order: Sequence[int], taken: Sequence[int]) -> list[int]:
    gone = set(taken)
    return [index for index in order if index not in gone]
