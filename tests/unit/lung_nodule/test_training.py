"""Whole runs of the engine with this recipe: what the standard runs of recipes leave out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from nodule_scans import SMALL, write_luna
from unit.engine.tiny import (
    assert_equal_states,
    manifests_of,
    newest,
    result_of,
    storage_of,
    tiny_rank,
    train,
)

from trainyard_trainer.errors import Stopped

pytestmark = pytest.mark.slow
EVERYTHING = {
    name: {"probability": 0.5}
    for name in (
        "random_flip",
        "random_rotation",
        "random_scale",
        "random_noise",
        "elastic_deformation",
    )
}


def config_of(root: Path, **changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {name: dict(section) for name, section in SMALL.items()}
    merged["data"] |= {"path": str(root), "train_subsets": [0, 1, 2, 3], "val_subsets": [4, 5]}
    merged["data"] |= {"test_subsets": [6]}
    merged["training"] |= {"epochs": 3, "batch_size": 4, "accumulation_steps": 1}
    merged["training"] |= {"hard_negative_mining": {"enabled": True}, "learning_rate": 0.01}
    for name, section in changes.items():
        merged[name] = merged.get(name, {}) | dict(section)
    return merged


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_luna(tmp_path / "scans", subsets=7)


def test_a_stopped_run_resumes_to_the_bit(tmp_path: Path, scans: Path) -> None:
    config = config_of(scans, augmentation=EVERYTHING, model={"use_dropout": True})
    options: dict[str, Any] = {"recipe": "lung-nodule", "config": config}
    whole = tiny_rank(tmp_path / "a", **options)
    train(whole)
    with pytest.raises(Stopped):
        train(tiny_rank(tmp_path / "b", **options), lambda recipe: recipe.position.step == 3)
    second = tiny_rank(tmp_path / "b", attempt=2, **options)
    train(second)
    assert_equal_states(newest(whole).state, newest(second).state)
    assert result_of(whole)["metrics"] == result_of(second)["metrics"]


def test_a_small_run_finds_the_nodules_of_scans_that_it_has_not_seen(tmp_path: Path) -> None:
    """Balls in air: whatever breaks targets, windows or coordinates shows here."""
    root = write_luna(tmp_path / "scans", subsets=7)
    training = {"epochs": 30, "learning_rate": 0.02}
    config = config_of(root, training=training, model={"base_filters": 4})
    config["validation"] = {"blob_baseline": True}
    rank = tiny_rank(tmp_path, recipe="lung-nodule", config=config)
    train(rank)
    metrics = result_of(rank)["metrics"]
    assert metrics["val_froc_score"] >= metrics["val_baseline_froc_score"] + 0.5
    assert metrics["val_center_accuracy"] == 1


def test_a_frozen_encoder_keeps_its_pretrained_weights_while_patches_grow(
    tmp_path: Path, scans: Path
) -> None:
    first = tiny_rank(tmp_path / "a", recipe="lung-nodule", config=config_of(scans))
    train(first)
    (file, *_) = (tmp_path / "a").rglob(f"{manifests_of(first)[0].prefix}/model.pt")
    stages = [
        {"epochs": 1, "patch_size": [8, 8, 8], "batch_size": 4},
        {"epochs": 1, "patch_size": [12, 12, 12], "batch_size": 2},
    ]
    training = {
        "progressive": {"stages": stages},
        "curriculum": {"stages": [{"epochs": 2, "min_diameter": 5}]},
        "pretrained": {"checkpoint": str(file), "freeze_encoder": True, "freeze_epochs": 2},
    }
    rank = tiny_rank(
        tmp_path / "b", recipe="lung-nodule", config=config_of(scans, training=training)
    )
    train(rank)
    before, after = newest(first).state["model"], newest(rank).state["model"]
    assert {one.stage for one in manifests_of(rank)} >= {"2-12x12x12-from5mm-frozen"}
    frozen = [name for name in before if name.startswith("encoder.")]
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_guides_workflow_of_mixed_precision_and_plateau_runs(
    tmp_path: Path, scans: Path
) -> None:
    training = {
        "optimizer": {"type": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True},
        "lr_scheduler": {"type": "plateau", "patience": 0, "factor": 0.5, "monitor": "val_froc"},
        "early_stopping": {"enabled": True, "patience": 15, "monitor": "val_froc"},
        "gradient_clipping": True,
        "accumulation_steps": 2,
        "batch_size": 2,
        "epochs": 2,
    }
    config = config_of(scans, model={"gradient_checkpointing": True})
    config["training"] = training
    config["device"] = {"type": "cpu", "mixed_precision": True, "amp_dtype": "bfloat16"}
    rank = tiny_rank(tmp_path, recipe="lung-nodule", config=config)
    train(rank)
    head = storage_of(rank).read("metrics.csv").decode().splitlines()[0].split(",")
    assert {"train_loss", "val_loss", "learning_rate", "memory_mebibytes"} <= set(head)
    assert {"train_main_grad_norm", "train_detection", "val_froc_score"} <= set(head)
