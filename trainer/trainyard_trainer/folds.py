"""Folds of a cross-validation: which samples each run validates on. No torch here."""

from collections.abc import Hashable, Sequence

import numpy as np


def refuse_absent_fold(fold: int, folds: int | None) -> None:
    """Raises ValueError for a fold that is not there."""
    if folds is not None and fold >= folds:
        raise ValueError(f"fold {fold} does not exist; folds: {folds} are numbered from 0")


def group_folds(
    labels: Sequence[Hashable], groups: Sequence[Hashable], folds: int, seed: int
) -> list[list[int]]:
    """Indices of the samples that each fold validates on: a partition, stratified by label, in
    which the samples of a group stay together.

    Groups differ in size, so the shares of a class can be equal no more than these allow. Raises
    ValueError where there are fewer groups than folds, or a class has fewer samples.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    named = [f"{type(one).__name__}/{one}" for one in groups]
    divider = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    divided = divider.split(np.zeros(len(labels)), [str(label) for label in labels], named)
    return [sorted(int(index) for index in held) for _, held in divided]
