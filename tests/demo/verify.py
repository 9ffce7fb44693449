"""Evaluate a fetched checkpoint on the test images, with nothing but torch and the recipe.

    python tests/demo/verify.py WEIGHTS DATA

Prints the accuracy, as a fraction.
"""

import sys
from pathlib import Path

import torch

from trainyard_trainer.config import build_config
from trainyard_trainer.recipe import Site
from trainyard_trainer.registry import config_class, load_recipe

DIGITS_CONFIG = {"model": {"architecture": "small_cnn"}, "data": {"image_size": 32}}


def test_accuracy(weights: Path, data: Path) -> float:
    """Share of the test images that the weights classify rightly."""
    config = build_config(config_class("classification"), [DIGITS_CONFIG])
    site = Site(data_path=data, scratch=data, device=torch.device("cpu"))
    recipe = load_recipe("classification")(config, site)
    model = recipe.build_modules()["model"].eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    samples = recipe.build_data(recipe.stages()[0]).test
    images, target = samples.batch(torch.arange(len(samples)), 0)
    with torch.no_grad():
        outputs = recipe.evaluate_batch({"model": model}, (images, target))
    return recipe.compute_metrics("test", outputs)["accuracy"]


if __name__ == "__main__":
    print(f"{test_accuracy(Path(sys.argv[1]), Path(sys.argv[2])):.4f}")
