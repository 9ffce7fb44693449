import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard_trainer.recipes.classification.metrics import (
    accuracy,
    classification_report,
    confusion_matrix,
    draw_confusion_matrix,
    macro_f1,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics")
NAMES = ["ants", "bees", "a longer name"]
PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_scores_and_report_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, predicted = map(list, zip(*pairs, strict=True))
    matrix = confusion_matrix(torch.tensor(predicted), torch.tensor(true), classes=3)
    labels = [0, 1, 2]
    assert (
        matrix.tolist() == sklearn_metrics.confusion_matrix(true, predicted, labels=labels).tolist()
    )
    assert accuracy(matrix) == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    options = {"labels": labels, "zero_division": 0}
    expected = sklearn_metrics.f1_score(true, predicted, average="macro", **options)
    assert macro_f1(matrix) == pytest.approx(expected)
    report = sklearn_metrics.classification_report(true, predicted, target_names=NAMES, **options)
    ours = classification_report(matrix, NAMES)
    # scikit-learn writes "micro avg" in place of "accuracy" where a class is absent.
    if len({*true, *predicted}) == 3:
        for mine, theirs in zip(words(ours), words(report), strict=True):
            # A score such as 0.725 may be rounded up or down: its last bit decides.
            assert mine == (theirs if isinstance(theirs, str) else pytest.approx(theirs, abs=0.011))


def words(report: str) -> list[str | float]:
    """Numbers as such: a support of 2 is printed as 2.0 where it multiplied a replaced score."""
    return [float(word) if word[0].isdigit() else word for word in report.split()]


def test_report_reads_as_a_table() -> None:
    matrix = torch.tensor([[3, 1], [0, 4]])
    assert classification_report(matrix, ["ants", "bees"]).splitlines() == [
        "              precision    recall  f1-score   support",
        "",
        "        ants       1.00      0.75      0.86         4",
        "        bees       0.80      1.00      0.89         4",
        "",
        "    accuracy                           0.88         8",
        "   macro avg       0.90      0.88      0.87         8",
        "weighted avg       0.90      0.88      0.87         8",
    ]


def test_matrices_of_two_ranks_add_up_to_that_of_all_images() -> None:
    predicted, true = torch.tensor([0, 1, 2, 2, 1]), torch.tensor([0, 1, 1, 2, 0])
    whole = confusion_matrix(predicted, true, 3)
    parts = confusion_matrix(predicted[::2], true[::2], 3)
    assert torch.equal(whole, parts + confusion_matrix(predicted[1::2], true[1::2], 3))


def test_empty_matrix_scores_zero_instead_of_dividing_by_zero() -> None:
    empty = torch.zeros(2, 2, dtype=torch.int64)
    assert (accuracy(empty), macro_f1(empty)) == (0, 0)


def test_picture_is_darkest_where_a_class_is_always_right() -> None:
    picture = draw_confusion_matrix(torch.tensor([[5, 0], [5, 5]]), ["ants", "bees"])
    assert picture.dtype == torch.uint8
    assert picture.shape == (168, 168, 3)
    corners = [(96 + 36 * row + 4, 96 + 36 * column + 4) for row in (0, 1) for column in (0, 1)]
    reds = [int(picture[y, x, 0]) for y, x in corners]
    assert reds == [0, 255, 128, 128]
