"""What needs no network: naive methods, each judged on the same test data as the recipe."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainyard_trainer.recipes.classification.data import ImageSamples, ImageSplit, find_images
from trainyard_trainer.recipes.csr.config import XrayDataConfig
from trainyard_trainer.recipes.csr.data import XraySamples, XraySplit, find_xrays
from trainyard_trainer.recipes.csr.metrics import pointing
from trainyard_trainer.recipes.skin_lesion.config import SkinDataConfig
from trainyard_trainer.recipes.skin_lesion.data import find_splits
from trainyard_trainer.synthetic import SYNTHETIC_FILE

Splits = Mapping[str, ImageSplit]
PENALTIES = (1e-4, 1e-2, 1.0)
"""Of the linear model (scikit-learn's C); which is best on the validation images is tested."""
DIGITS_SIDE, LESIONS_SIDE = 8, 16
"""Pixels of a side that the linear model sees: all of a digit's, a quarter of a lesion's."""
_SEED = 42
"""Of csr's validation images."""


@dataclass(frozen=True)
class Ended:
    """What is known of a run that has ended."""

    metrics: Mapping[str, float]
    reports: Path
    """Folder with the run's reports."""
    data: Path
    """The data set as it was uploaded."""


def of_metric(name: str) -> Callable[[Ended], float]:
    """A method that the recipe itself judges beside the network."""
    return lambda ended: ended.metrics[name]


def class_sizes(ended: Ended) -> list[int]:
    """Test images of each class, from the confusion matrix."""
    text = (ended.reports / "confusion_matrix_test.csv").read_text()
    return [sum(map(int, row[1:])) for row in list(csv.reader(io.StringIO(text)))[1:]]


def majority_share(ended: Ended) -> float:
    """Share of the most frequent class of the test images."""
    sizes = class_sizes(ended)
    return max(sizes) / sum(sizes)


def linear_on_digits(ended: Ended) -> float:
    """`linear_accuracy` on the images of classification's example."""
    return _on_the_same(ended, find_images(ended.data, fold=0).splits, DIGITS_SIDE)


def linear_on_lesions(ended: Ended) -> float:
    """`linear_accuracy` on the images of skin-lesion's example, benign or malignant."""
    return _on_the_same(ended, find_splits(ended.data, SkinDataConfig(), 2).splits, LESIONS_SIDE)


def linear_accuracy(splits: Splits, side: int) -> float:
    """Logistic regression on standardised pixels: its accuracy on the test images.

    side: to which images are scaled. It learns from train alone; val chooses its penalty.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels = {name: _pixels(split, side) for name, split in splits.items()}
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000)).fit(
            pixels["train"], splits["train"].labels
        )
        for penalty in PENALTIES
    ]
    best = max(models, key=lambda model: model.score(pixels["val"], splits["val"].labels))
    return float(best.score(pixels["test"], splits["test"].labels))


def usual_places(ended: Ended) -> float:
    """`pointing_at_usual_places` with the boxes of csr's data set."""
    splits = find_xrays(ended.data, XrayDataConfig(), _SEED).splits
    return pointing_at_usual_places(_boxes(splits["train"]), _boxes(splits["test"]))


def pointing_at_usual_places(train: Tensor, test: Tensor) -> float:
    """Share of hits of what points, in each image, where training boxes of the concept most are.

    train, test: (N, K, G, G) bool.
    """
    maps = train.float().sum(dim=0).expand(len(test), -1, -1, -1)  # (N, K, G, G)
    hits, pairs, *_ = pointing(maps, test).tolist()
    return float(hits / pairs)


def is_titled_rightly(ended: Ended) -> bool:
    """Whether the report's title calls data synthetic where it is marked so, and only there."""
    page = (ended.reports.parent / "report.html").read_text()
    return ("<title>SYNTHETIC DATA: " in page) == (ended.data / SYNTHETIC_FILE).exists()


def _on_the_same(ended: Ended, splits: Splits, side: int) -> float:
    """Raises AssertionError where the recipe was tested on other images."""
    sizes = class_sizes(ended)
    assert splits["test"].counts(len(sizes)) == sizes, "the linear model has other test images"
    return linear_accuracy(splits, side)


def _pixels(split: ImageSplit, side: int) -> np.ndarray:
    samples = ImageSamples(split, side, 0)
    return np.stack([samples[number][0].flatten().numpy() for number in range(len(samples))])


def _boxes(split: XraySplit) -> Tensor:
    samples = XraySamples(split, 32, 0, with_boxes=True)
    return torch.stack([samples[number][3] for number in range(len(samples))])
