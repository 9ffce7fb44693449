"""What a diagnosis is worth without a network: a linear model on pixels.

    python -m trainyard_trainer.recipes.csr.baseline DIR

Prints the mean AUC over the diagnoses of the test images. Guessing has 0.5.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from trainyard_trainer.recipes.csr.config import XrayDataConfig
from trainyard_trainer.recipes.csr.data import XraySplit, find_xrays
from trainyard_trainer.recipes.csr.metrics import mean_auc
from trainyard_trainer.recipes.csr.xray import read_xray, resize

_SIZE = 32
"""Pixels of a side that the linear model sees."""


def linear_auc(root: Path, seed: int = 42) -> float:
    """Mean AUC over the test images of one logistic regression a diagnosis."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    splits = find_xrays(root, XrayDataConfig(), seed).splits
    pixels, truth = _table(splits["train"])
    unseen, labels = _table(splits["test"])
    scores = np.full(labels.shape, 0.5)
    for column in range(labels.shape[1]):
        if 0 < truth[:, column].sum() < len(truth):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            model.fit(pixels, truth[:, column])
            scores[:, column] = model.decision_function(unseen)
    return mean_auc(torch.from_numpy(scores), torch.from_numpy(labels))


def _table(split: XraySplit) -> tuple[np.ndarray, np.ndarray]:
    rows = [resize(read_xray(file), _SIZE).ravel() / 255 for file in split.files]
    return np.stack(rows), np.array(split.tasks)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Mean AUC of a linear model on pixels.")
    parser.add_argument("directory", type=Path, help="the data set")
    given = parser.parse_args(arguments)
    print(f"mean AUC of a linear model on pixels: {linear_auc(given.directory):.4f}")


if __name__ == "__main__":
    main()
