"""What each recipe's example must reach: its metric, what a naive method has, and by how much more.

Data is drawn: figures say that networks learn and that the plumbing works, nothing of patients.
"""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Ended:
    """What is known of a run that has ended."""

    metrics: Metrics
    reports: Path
    """Folder with the run's reports."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One of configs/."""

    config: str
    data: tuple[str, ...]
    """Arguments of trainyard that write the data set into `{}`."""
    metric: str
    baseline: str
    """The naive method in words."""
    naive: Callable[[Ended], float]
    margin: float
    """By how much the metric must exceed it."""


def majority_share(ended: Ended) -> float:
    """Share of the most frequent class of the test images, from the confusion matrix."""
    text = (ended.reports / "confusion_matrix_test.csv").read_text()
    sizes = [sum(map(int, row[1:])) for row in list(csv.reader(io.StringIO(text)))[1:]]
    return max(sizes) / sum(sizes)


def of_metric(name: str) -> Callable[[Ended], float]:
    """A method that the recipe itself judges beside the network."""
    return lambda ended: ended.metrics[name]


EXAMPLES = {
    "classification": Example(
        config="digits",
        data=("data", "digits", "{}"),
        metric="test_accuracy",
        baseline="the most frequent digit",
        naive=majority_share,
        margin=0.5,
    ),
    "skin-lesion": Example(
        config="skin-lesion",
        data=("synth", "skin-lesion", "--out", "{}", "--", "--lesions", "400", "--size", "64"),
        metric="test_accuracy",
        baseline="the most frequent class",
        naive=majority_share,
        margin=0.1,
    ),
    "mar-gan": Example(
        config="mar-gan",
        data=(
            *("synth", "mar-gan", "--out", "{}", "--", "--side", "32"),
            *("--patients", "100", "8", "--masks", "40", "8"),
        ),
        metric="test_psnr",
        baseline="linear interpolation, dB",
        naive=of_metric("test_li_psnr"),
        margin=0.5,
    ),
    "lung-nodule": Example(
        config="lung-nodule",
        data=("synth", "lung-nodule", "--out", "{}", "--", "--scans", "80"),
        metric="test_froc_score",
        baseline="a blob detector",
        naive=of_metric("test_baseline_froc_score"),
        margin=0.1,
    ),
    "csr": Example(
        config="csr",
        data=("synth", "csr", "--out", "{}"),
        metric="test_auc",
        baseline="a linear model on pixels",
        naive=of_metric("test_baseline_auc"),
        margin=0.01,
    ),
}
"""By recipe."""
