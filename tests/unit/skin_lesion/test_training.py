"""Whole runs on two ranks, on drawn lesions: what the standard runs of recipes leave out."""

from pathlib import Path
from typing import Any

import pytest
from recipes.baselines import LESIONS_SIDE, linear_accuracy
from unit.engine.gang import run_gangs
from unit.engine.tiny import assert_equal_states, manifests_of, newest, result_of
from unit.engine.tiny import tiny_rank as rank_of

from trainyard_operator.contract import ExitCode
from trainyard_trainer.recipes.skin_lesion.config import SkinDataConfig
from trainyard_trainer.recipes.skin_lesion.data import find_splits
from trainyard_trainer.recipes.skin_lesion.synth import write_lesions

pytestmark = pytest.mark.slow
SMALL: dict[str, Any] = {
    "model": {
        "dropout_rate": 0.0,
        "norm": "group",
        "architecture": {"conv_blocks": 2, "channels": [8, 16], "classifier_hidden": 16},
    },
    "training": {"epochs": 3, "batch_size": 16},
    "data": {"image_size": 24},
}
SAVING = {"everySteps": 2, "keepLast": 99, "async": False}


def phase(data: Path, place: str, nodes: int, *words: str, **more: Any) -> dict[str, Any]:
    return {
        "place": place,
        "nodes": nodes,
        "recipe": "skin-lesion-mortal",
        "module": "unit.recipes.mortal",
        "config": SMALL,
        "overrides": list(words),
        "dataset_path": str(data),
        "checkpoint": SAVING,
    } | more


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("lesions")
    write_lesions(directory, lesions=60, size=32)
    return directory


def test_run_of_two_stages_that_is_killed_goes_on_to_the_bit(tmp_path: Path, lesions: Path) -> None:
    """With all that is random, and running statistics."""
    words = (
        "training.freeze_backbone_epochs=1",
        "model.norm=batch",
        "model.dropout_rate=0.4",
        "data.augment=true",
    )
    codes, log = run_gangs(
        tmp_path,
        [
            phase(lesions, "whole", 2, *words),
            phase(lesions, "killed", 2, *words, "kill_at=8"),
            phase(lesions, "killed", 2, *words, attempt=2),
        ],
    )
    assert codes == [[0, 0], [ExitCode.PEER_LOST, -9], [0, 0]], log
    whole, killed = rank_of(tmp_path / "whole"), rank_of(tmp_path / "killed")
    assert min(m.step for m in manifests_of(killed) if m.attempt == 2) >= 4
    assert_equal_states(newest(whole).state, newest(killed).state)
    assert result_of(whole)["metrics"] == result_of(killed)["metrics"]


def test_small_run_beats_the_majority_class_and_a_linear_model_on_pixels(tmp_path: Path) -> None:
    pytest.importorskip("sklearn.linear_model")
    data = tmp_path / "lesions"
    write_lesions(data, lesions=160, size=48)
    words = (
        "training.epochs=10",
        "training.learning_rate=0.005",
        "training.monitor_metric=val_accuracy",
        "training.lr_scheduler=cosine",
        "data.image_size=48",
        "model.norm=batch",
        "model.architecture.conv_blocks=3",
        "model.architecture.channels=[16,32,64]",
    )
    codes, log = run_gangs(tmp_path, [phase(data, "run", 2, *words, checkpoint={"everyEpochs": 1})])
    assert codes == [[0, 0]], log
    splits = find_splits(data, SkinDataConfig(), 2).splits
    counts = splits["test"].counts(2)
    accuracy = result_of(rank_of(tmp_path / "run"))["metrics"]["test_accuracy"]
    linear = linear_accuracy(splits, LESIONS_SIDE)
    assert accuracy >= max(linear, max(counts) / sum(counts)) + 0.1
