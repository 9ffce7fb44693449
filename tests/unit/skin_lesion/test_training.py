"""Whole runs on one and two ranks, on drawn lesions."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unit.engine.gang import run_gangs
from unit.engine.tiny import assert_equal_states, manifests_of, newest, result_of, storage_of
from unit.engine.tiny import tiny_rank as rank_of

from trainyard_operator.contract import ExitCode
from trainyard_trainer.recipes.skin_lesion.config import SkinDataConfig
from trainyard_trainer.recipes.skin_lesion.data import HAM10000DataModule, find_splits
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
        "recipe": "skin-mortal",
        "module": "unit.skin_lesion.mortal",
        "config": SMALL,
        "overrides": list(words),
        "dataset_path": str(data),
        "checkpoint": SAVING,
    } | more


def curve(place: Path, column: str) -> list[float]:
    text = storage_of(rank_of(place)).read("metrics.csv").decode()
    return [float(row[column]) for row in csv.DictReader(io.StringIO(text)) if row[column]]


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("lesions")
    write_lesions(directory, lesions=60, size=32)
    return directory


def test_two_ranks_learn_what_one_learns(tmp_path: Path, lesions: Path) -> None:
    phases = [phase(lesions, "one", 1), phase(lesions, "two", 2)]
    codes, log = run_gangs(tmp_path, phases)
    assert codes == [[0], [0, 0]], log
    one, two = rank_of(tmp_path / "one"), rank_of(tmp_path / "two")
    for column in ("train_loss", "val_loss"):
        curves = [curve(tmp_path / place, column) for place in ("one", "two")]
        assert len(curves[0]) == len(curves[1]) == 3
        np.testing.assert_allclose(curves[0], curves[1], rtol=2e-4)
    for name, value in result_of(two)["metrics"].items():
        assert result_of(one)["metrics"][name] == pytest.approx(value, abs=2e-3), name


def test_evaluation_of_the_same_weights_on_two_ranks_is_that_on_one(
    tmp_path: Path, lesions: Path
) -> None:
    # Batches of other sizes may round otherwise.
    singly = "training.evaluation_batch_size=1"
    codes, log = run_gangs(tmp_path, [phase(lesions, "one", 1, singly)])
    assert codes == [[0]], log
    alone = result_of(rank_of(tmp_path / "one"))["metrics"]
    codes, log = run_gangs(tmp_path, [phase(lesions, "one", 2, singly, attempt=2)])
    assert codes == [[0, 0]], log
    together = result_of(rank_of(tmp_path / "one"))
    assert together["world_size"] == 2
    final = {name: value for name, value in alone.items() if name.startswith("test_")}
    assert {name: together["metrics"][name] for name in final} == final


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            ("model.norm=batch", "model.dropout_rate=0.4", "data.augment=true"), id="plain"
        ),
        pytest.param(("training.freeze_backbone_epochs=1", "data.augment=true"), id="two stages"),
    ],
)
def test_killed_run_goes_on_to_the_bit(
    tmp_path: Path, lesions: Path, words: tuple[str, ...]
) -> None:
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
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = tmp_path / "lesions"
    write_lesions(data, lesions=160, size=48)
    words = (
        "training.epochs=10",
        "training.learning_rate=0.005",
        "training.monitor_metric=val_auc",
        "training.lr_scheduler=cosine",
        "data.image_size=48",
        "model.norm=batch",
        "model.architecture.conv_blocks=3",
        "model.architecture.channels=[16,32,64]",
    )
    codes, log = run_gangs(tmp_path, [phase(data, "run", 2, *words, checkpoint={"everyEpochs": 1})])
    assert codes == [[0, 0]], log
    dm = HAM10000DataModule(data, batch_size=10_000, image_size=16)
    (train, labels), (test, truth) = (
        next(iter(loader)) for loader in (dm.train_dataloader(), dm.test_dataloader())
    )
    model = linear_model.LogisticRegression(C=0.01, max_iter=200)
    linear = model.fit(train.flatten(1), labels).score(test.flatten(1), truth)
    counts = find_splits(data, SkinDataConfig(), 2).splits["test"].counts(2)
    accuracy = result_of(rank_of(tmp_path / "run"))["metrics"]["test_accuracy"]
    assert accuracy >= max(linear, max(counts) / sum(counts)) + 0.1
