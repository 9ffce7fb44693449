"""Scores of one evaluation, all read off a confusion matrix, so that ranks only add up counts.

A matrix is (C, C) int64: rows are the true classes, columns the predicted ones.
"""

import csv
import io
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

_CELL_PIXELS = 36
_MARGIN_PIXELS = 96
_NAME_CHARACTERS = 14


def confusion_matrix(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count (true, predicted) pairs. predicted, target: (B,) class indices."""
    pairs = target * classes + predicted
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(matrix: Tensor) -> float:
    """Share of images whose class was predicted; 0 for an empty matrix."""
    return _ratio(matrix.diagonal().sum(), matrix.sum()).item()


def macro_f1(matrix: Tensor) -> float:
    """Mean of the classes' F1 scores, each class counting the same."""
    return class_scores(matrix)[:, 2].mean().item()


def class_scores(matrix: Tensor) -> Tensor:
    """(C, 3): precision, recall and F1 of each class; 0 where a denominator is 0."""
    hits = matrix.diagonal()
    precision = _ratio(hits, matrix.sum(dim=0))
    recall = _ratio(hits, matrix.sum(dim=1))
    f1 = _ratio(2 * hits, matrix.sum(dim=0) + matrix.sum(dim=1))
    return torch.stack([precision, recall, f1], dim=1)


def classification_report(matrix: Tensor, classes: Sequence[str]) -> str:
    """Precision, recall, F1 and support by class, in scikit-learn's layout."""
    scores, support = class_scores(matrix), matrix.sum(dim=1)
    total = int(support.sum())
    width = max(len("weighted avg"), *(len(name) for name in classes))
    weights = support.double() / max(total, 1)
    lines = [f"{'':>{width}}  {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}", ""]
    lines += [
        _report_line(name, scores[row], int(support[row]), width)
        for row, name in enumerate(classes)
    ]
    overall = f"{'accuracy':>{width}}  {'':>9} {'':>9} {accuracy(matrix):>9.2f} {total:>9}"
    lines += ["", overall, _report_line("macro avg", scores.mean(dim=0), total, width)]
    weighted = (scores * weights[:, None]).sum(dim=0)
    lines += [_report_line("weighted avg", weighted, total, width), ""]
    return "\n".join(lines)


def confusion_table(matrix: Tensor, classes: Sequence[str]) -> str:
    """As CSV: a row for each true class, a column for each predicted one."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["true \\ predicted", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
    return out.getvalue()


def draw_confusion_matrix(matrix: Tensor, classes: Sequence[str]) -> Tensor:
    """A picture for TensorBoard, (H, W, 3) uint8: rows true, columns predicted, counts inside.

    A cell's blue is its share of the row, so that rare classes show as well as frequent ones.
    """
    shares = _ratio(matrix, matrix.sum(dim=1, keepdim=True))
    side = _MARGIN_PIXELS + _CELL_PIXELS * len(classes)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((4, 4), "true \\ predicted", fill="black")
    for row, name in enumerate(classes):
        near = _MARGIN_PIXELS + _CELL_PIXELS * row
        label = name[:_NAME_CHARACTERS]
        draw.text((4, near + _CELL_PIXELS // 3), label, fill="black")
        # Column names are stepped, so that neighbours do not overlap.
        draw.text((near, 28 + 16 * (row % 4)), label, fill="black")
        for column in range(len(classes)):
            left = _MARGIN_PIXELS + _CELL_PIXELS * column
            share = shares[row, column].item()
            faded = round(255 * (1 - share))
            box = (left, near, left + _CELL_PIXELS - 1, near + _CELL_PIXELS - 1)
            draw.rectangle(box, fill=(faded, faded, 255), outline=(200, 200, 200))
            ink = "white" if share > 0.5 else "black"
            draw.text((left + 6, near + 12), str(int(matrix[row, column])), fill=ink)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.reshape(side, side, 3)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole as float64, 0 where whole is 0: float32 would round counts above 2**24."""
    return part.double() / whole.double().clamp(min=1)


def _report_line(name: str, scores: Tensor, support: int, width: int) -> str:
    numbers = " ".join(f"{score:>9.2f}" for score in scores.tolist())
    return f"{name:>{width}}  {numbers} {support:>9}"
