"""The jobs that are attacked: few small images, tiny networks, and every kind of state."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

PACKAGES = Path(__file__).with_name("packages")
RECIPES = {"digits": "chaos-digits", "gan": "chaos-gan"}
COUNTS = {"train": 15, "val": 4, "test": 3}
"""Images of each digit."""
EPOCHS, BATCH = 24, 16
STEPS = EPOCHS * (10 * COUNTS["train"] // BATCH)

TRAINING: dict[str, Any] = {
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "log_every_steps": 3,
    "device": "cpu",
    "ema_decay": 0.9,
    "early_stopping": {"patience": EPOCHS},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "digits": {
        "training": TRAINING
        | {"learning_rate": 0.01, "schedule": {"name": "plateau", "patience": 1}},
        "data": {
            "image_size": 8,
            "augmentation": {"rotation_degrees": 10, "translation": 0.1, "brightness": 0.2},
        },
    },
    "gan": {
        "training": TRAINING
        | {"learning_rate": 0.005, "schedule": {"name": "cosine", "warmup_epochs": 1}}
    },
}


def write_job(file: Path, model: str, seed: int, nodes: int, storage: dict[str, str]) -> None:
    """The job's file. Two ranks: on two nodes, or on one. The data lies beside it."""
    config = CONFIGS[model]
    config = config | {"training": config["training"] | {"seed": seed}}
    spec = {
        "recipe": RECIPES[model],
        "config": config,
        "nodes": nodes,
        "processesPerNode": 2 // nodes,
        "runPolicy": {"maxRestarts": 100, "restartBackoff": {"initialSeconds": 0}},
        "checkpoint": {"everySteps": 7, "keepLast": 3},
        "dataset": {"uri": (file.parent / "data").as_uri()},
        "storage": storage,
    }
    manifest = {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": model},
        "spec": spec,
    }
    file.write_text(yaml.safe_dump(manifest, sort_keys=False))


def write_data(folder: Path) -> None:
    """A few of scikit-learn's digits as an image folder."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(10):
        images = iter(digits.images[digits.target == digit])
        for split, count in COUNTS.items():
            place = folder / split / str(digit)
            place.mkdir(parents=True)
            for number in range(count):
                pixels = np.round(next(images) * (255 / 16)).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{number:02d}.png")


def install_recipes(place: Path) -> str:
    """What pip would make of the packages; returns the PYTHONPATH that finds them."""
    shutil.copytree(PACKAGES, place)
    metadata = place / "chaos_recipes-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-recipes\nVersion: 1\n")
    entries = "".join(f"{name} = {name.replace('-', '_')}\n" for name in RECIPES.values())
    (metadata / "entry_points.txt").write_text(f"[trainyard.recipes]\n{entries}")
    return str(place)
