"""Scores of one evaluation from the classes' probabilities, (N, C), and the true classes, (N,)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainyard_trainer.recipes.classification import metrics as counts

MALIGNANT_INDEX = 1


def score(probabilities: Tensor, target: Tensor) -> dict[str, float]:
    """accuracy, balanced_accuracy, f1_score, macro_f1, auc; of two classes also sensitivity and
    specificity for the malignant one.

    f1_score is that of the malignant class where there are two, else the macro mean. auc is the
    mean of the classes' areas, one against the rest, over the classes that have both.
    """
    classes = probabilities.shape[1]
    matrix = counts.confusion_matrix(probabilities.argmax(dim=1), target, classes)
    by_class = counts.class_scores(matrix)
    present = matrix.sum(dim=1) > 0
    found = {
        "accuracy": counts.accuracy(matrix),
        "balanced_accuracy": by_class[present, 1].mean().item(),
        "macro_f1": by_class[:, 2].mean().item(),
        "auc": mean_auc(probabilities, target),
    }
    if classes > 2:
        return found | {"f1_score": found["macro_f1"]}
    return found | {
        "f1_score": by_class[MALIGNANT_INDEX, 2].item(),
        "sensitivity": by_class[MALIGNANT_INDEX, 1].item(),
        "specificity": by_class[1 - MALIGNANT_INDEX, 1].item(),
    }


def mean_auc(probabilities: Tensor, target: Tensor) -> float:
    """Of two classes the area for the second; NaN where no class has both kinds of images."""
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = torch.tensor([roc_auc(probabilities[:, c], target == c) for c in columns])
    return areas[~areas.isnan()].mean().item()


def roc_auc(scores: Tensor, positive: Tensor) -> float:
    """Share of pairs of a positive and a negative in which the positive scores higher, ties half.

    The area under the ROC curve (Hanley & McNeil 1982, doi.org/10.1148/radiology.143.1.7063747).
    scores: (N,). positive: (N,) bool. NaN without positives or without negatives.
    """
    x, y = roc_curve(scores, positive)
    return torch.trapezoid(y, x).item()


def roc_curve(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """False and true positive rates at falling thresholds, from (0, 0) to (1, 1), one point for
    each distinct score; NaN where a rate has no meaning."""
    order = scores.argsort(descending=True, stable=True)
    ranked, hits = scores[order], positive[order].double()
    last = torch.ones(len(ranked), dtype=torch.bool)
    last[:-1] = ranked[1:] != ranked[:-1]
    true, false = hits.cumsum(0)[last], (1 - hits).cumsum(0)[last]
    zero = torch.zeros(1, dtype=torch.float64)
    x = torch.cat([zero, false]) / (1 - hits).sum()
    y = torch.cat([zero, true]) / hits.sum()
    return x, y


def roc_lines(
    probabilities: Tensor, target: Tensor, classes: Sequence[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """For `pictures.Curves`: each class against the rest, with its area in its name."""
    columns = [1] if len(classes) == 2 else range(len(classes))
    lines = {}
    for column in columns:
        x, y = roc_curve(probabilities[:, column], target == column)
        area = torch.trapezoid(y, x).item()
        lines[f"{classes[column]} {area:.3f}"] = (x.tolist(), y.tolist())
    return lines
