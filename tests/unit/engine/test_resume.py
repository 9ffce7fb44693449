"""A run that was interrupted ends as one that was not, bit by bit."""

from pathlib import Path
from typing import Any

import pytest
from unit.engine.tiny import (
    TEST,
    VALIDATION,
    assert_equal_states,
    manifests_of,
    newest,
    result_of,
    storage_of,
    tiny_rank,
    train,
)

from trainyard_trainer.errors import Stopped

FANCY: dict[str, Any] = {
    "ema_decay": 0.9,
    "clip_grad_norm": 0.5,
    "schedule": {"name": "cosine", "warmup_epochs": 1},
    "early_stopping": {"patience": 5},
}
STEPS = 18  # 3 epochs of 45 samples in batches of 8, the last one of 5.


@pytest.mark.parametrize(
    ("training", "fail_at", "every_steps"),
    [
        pytest.param({}, 9, 4, id="in the middle of an epoch"),
        pytest.param({}, 7, 6, id="at an epoch's first step"),
        pytest.param({}, 6, 5, id="at an epoch's last step"),
        pytest.param(FANCY, 9, 2, id="with averages, clipping and a schedule"),
        pytest.param({"optimizer": {"name": "sgd"}}, 16, 4, id="with momentum"),
        pytest.param({"precision": "bf16"}, 9, 4, id="with half precision"),
        pytest.param({"schedule": {"name": "plateau", "patience": 0}}, 14, 13, id="with plateau"),
        pytest.param({"micro_batch_size": 3}, 9, 4, id="with accumulation"),
    ],
)
def test_failed_run_goes_on_as_if_it_had_not_failed(
    tmp_path: Path, training: dict[str, Any], fail_at: int, every_steps: int
) -> None:
    policy = {"everySteps": every_steps, "keepLast": 99}
    whole = tiny_rank(tmp_path / "a", config={"training": training}, checkpoint=policy)
    train(whole)
    broken = tiny_rank(
        tmp_path / "b", config={"training": training, "fail_at": fail_at}, checkpoint=policy
    )
    with pytest.raises(ArithmeticError):
        train(broken)
    second = tiny_rank(tmp_path / "b", config={"training": training}, checkpoint=policy, attempt=2)
    train(second)
    one, other = newest(whole), newest(second)
    assert one.manifest.step == other.manifest.step == STEPS
    assert other.manifest.attempt == 2
    assert_equal_states(one.state, other.state)
    assert_equal_states(one.rank_state, other.rank_state)
    assert result_of(whole)["metrics"] == result_of(second)["metrics"]


@pytest.mark.parametrize("stop_at", [1, 6, 11, STEPS])
def test_stop_saves_that_very_step(tmp_path: Path, stop_at: int) -> None:
    whole = tiny_rank(tmp_path / "a")
    train(whole)
    first = tiny_rank(tmp_path / "b")
    with pytest.raises(Stopped) as stopped:
        train(first, lambda recipe: recipe.position.step == stop_at)
    assert str(stopped.value) == f"Stopped on request at step {stop_at}; a checkpoint is saved."
    assert manifests_of(first)[0].step == stop_at
    second = tiny_rank(tmp_path / "b", attempt=2)
    train(second)
    assert_equal_states(newest(whole).state, newest(second).state)


@pytest.mark.parametrize(("at", "pauses"), [(6, 6), (7, 12), (12, 12)])
def test_a_paused_run_goes_on_as_if_it_had_not_paused(tmp_path: Path, at: int, pauses: int) -> None:
    whole = tiny_rank(tmp_path / "a")
    train(whole)
    first = tiny_rank(tmp_path / "b", checkpoint={"pauseAtStep": at})
    with pytest.raises(Stopped) as stopped:
        train(first)
    assert str(stopped.value) == f"Paused at step {pauses}; a checkpoint is saved."
    assert manifests_of(first)[0].step == pauses
    train(tiny_rank(tmp_path / "b", attempt=2, checkpoint={"pauseAtStep": STEPS}))
    assert_equal_states(newest(whole).state, newest(first).state)
    assert newest(first).manifest.step == STEPS


def test_metrics_of_both_attempts_are_one_table(tmp_path: Path) -> None:
    saving = {"everyEpochs": 1, "async": False}  # Else the failure may come before the upload ends.
    first = tiny_rank(tmp_path, config={"fail_at": 12}, checkpoint=saving)
    with pytest.raises(ArithmeticError):
        train(first)
    train(tiny_rank(tmp_path, attempt=2))
    lines = storage_of(first).read("metrics.csv").decode().splitlines()
    header, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
    assert header[:5] == ["step", "epoch", "stage", "attempt", "time"]
    assert [(int(row[0]), int(row[3])) for row in rows] == [
        *[(step, 1) for step in (2, 4, 6)],
        *[(step, 2) for step in (8, 10, 12, 14, 16, 18)],
    ]


def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = tiny_rank(tmp_path)
    train(first)
    before = result_of(first)
    second = tiny_rank(tmp_path, attempt=2)
    storage_of(first).delete(["result.json"])
    run = train(second)
    assert run.recipe.position.step == STEPS
    assert result_of(second)["metrics"] == before["metrics"]


def test_final_splits_are_seen_whole_by_the_best_model(tmp_path: Path) -> None:
    rank = tiny_rank(tmp_path, config={"training": {"learning_rate": 0.5}})
    train(rank)
    result = result_of(rank)
    sizes = storage_of(rank).read("reports/sizes.txt").decode()
    assert sizes == str({"validation": VALIDATION, "test": TEST})
    values = {m.step: m.metrics["val_loss"] for m in manifests_of(rank)}
    best = min(values, key=lambda step: (values[step], step))
    assert result["best_step"] == best
    assert result["metrics"]["val_loss"] == values[best]
