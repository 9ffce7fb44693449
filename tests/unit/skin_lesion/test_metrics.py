import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainyard_trainer.recipes.skin_lesion.metrics import mean_auc, roc_auc, roc_curve, score

sklearn = pytest.importorskip("sklearn.metrics")


def drawn(classes: int, size: int, seed: int, ties: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, classes, generator=generator)
    if ties:
        logits = logits.round()
    target = torch.cat(
        [torch.arange(classes), torch.randint(classes, (size,), generator=generator)]
    )
    return logits.softmax(dim=1), target[:size]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([2, 7]), st.integers(10, 80), st.integers(0, 99), st.booleans())
def test_scores_are_those_of_scikit_learn(classes: int, size: int, seed: int, ties: bool) -> None:
    probabilities, target = drawn(classes, size, seed, ties)
    found, predicted = score(probabilities, target), probabilities.argmax(dim=1)
    average = "binary" if classes == 2 else "macro"
    labels = list(range(classes))
    expected = {
        "accuracy": sklearn.accuracy_score(target, predicted),
        "balanced_accuracy": sklearn.balanced_accuracy_score(target, predicted),
        "macro_f1": sklearn.f1_score(
            target, predicted, average="macro", labels=labels, zero_division=0
        ),
        "f1_score": sklearn.f1_score(target, predicted, average=average, zero_division=0),
    }
    if classes == 2:
        expected["auc"] = sklearn.roc_auc_score(target, probabilities[:, 1])
        expected["sensitivity"] = sklearn.recall_score(target, predicted, pos_label=1)
        expected["specificity"] = sklearn.recall_score(target, predicted, pos_label=0)
    else:
        expected["auc"] = sum(
            sklearn.roc_auc_score(target == c, probabilities[:, c]) for c in labels
        ) / len(labels)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_roc_curve_runs_from_corner_to_corner_with_ties_as_one_step() -> None:
    x, y = roc_curve(torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([True, True, False, False]))
    assert (x.tolist(), y.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])


def test_area_without_both_kinds_is_not_a_number() -> None:
    assert math.isnan(roc_auc(torch.tensor([0.1, 0.2]), torch.tensor([True, True])))
    only = torch.full((3, 2), 0.5)
    assert math.isnan(mean_auc(only, torch.ones(3, dtype=torch.int64)))
