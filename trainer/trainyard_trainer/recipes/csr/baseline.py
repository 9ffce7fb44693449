"""What a diagnosis is worth without a network: a linear model on pixels.

    python -m trainyard_trainer.recipes.csr.baseline DIR

Prints the mean AUC over the diagnoses of the test images. Guessing has 0.5. A run with
`linear_baseline: true` has it in its report as test_baseline_auc.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainyard_trainer.recipes.csr.config import XrayDataConfig
from trainyard_trainer.recipes.csr.data import XraySamples, find_xrays
from trainyard_trainer.recipes.csr.metrics import mean_auc
from trainyard_trainer.recipes.csr.xray import resize

_SIZE = 32
"""Pixels of a side that the linear model sees."""


def linear_auc(root: Path, seed: int = 42) -> float:
    """`linear_scores` on a data set: mean AUC over the test images."""
    splits = find_xrays(root, XrayDataConfig(), seed).splits
    train, test = (XraySamples(splits[name], _SIZE, 0) for name in ("train", "test"))
    return mean_auc(linear_scores(train, test), test.tasks)


def linear_scores(train: XraySamples, test: XraySamples) -> Tensor:
    """One logistic regression a diagnosis, fitted to `train`: (N, C) of the test images.

    0 where all training images have a diagnosis, or none has.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels, unseen, truth = _pixels(train), _pixels(test), train.tasks.numpy()
    scores = np.zeros((len(test), truth.shape[1]))
    for column in range(truth.shape[1]):
        if 0 < truth[:, column].sum() < len(truth):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
            model.fit(pixels, truth[:, column])
            scores[:, column] = model.decision_function(unseen)
    return torch.from_numpy(scores)


def _pixels(samples: XraySamples) -> np.ndarray:
    images = (samples[index][0][0].numpy() for index in range(len(samples)))
    return np.stack([resize(image, _SIZE).ravel() / 255 for image in images])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Mean AUC of a linear model on pixels.")
    parser.add_argument("directory", type=Path, help="the data set")
    given = parser.parse_args(arguments)
    print(f"mean AUC of a linear model on pixels: {linear_auc(given.directory):.4f}")


if __name__ == "__main__":
    main()
