"""result.json and the records of attempts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from unit.engine.tiny import TEST, TRAIN, VALIDATION, result_of, storage_of, tiny_rank, train

from trainyard_operator.contract import Report
from trainyard_operator.layout import attempt_end_file
from trainyard_trainer.context import Rank, report_file
from trainyard_trainer.errors import Stopped
from trainyard_trainer.goodput import AttemptRecord, Stopwatch, measure
from trainyard_trainer.provenance import fingerprint, revision_of


def attempt_of(rank: Rank, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(storage_of(rank).read(f"attempts/a{number}.json"))
    return found


def test_result_says_everything_about_the_run(tmp_path: Path) -> None:
    (tmp_path / "data" / "one").mkdir(parents=True)
    (tmp_path / "data" / "one" / "a.png").write_bytes(b"12345")
    (tmp_path / "data" / "b.png").write_bytes(b"123")
    rank = tiny_rank(tmp_path, overrides=["training.seed=7"], dataset_path=str(tmp_path / "data"))
    train(rank)
    result = result_of(rank)
    assert result["seed"] == result["config"]["training"]["seed"] == 7
    assert result["overrides"] == ["training.seed=7"]
    assert result["versions"]["torch"] == torch.__version__
    assert result["revisions"]["trainyard"]["commit"]
    assert (result["data"]["files"], result["data"]["bytes"]) == (2, 8)
    assert {name: split["samples"] for name, split in result["splits"].items()} == {
        "train": TRAIN,
        "validation": VALIDATION,
        "test": TEST,
    }
    assert result["splits"]["test"]["metrics"]["loss"] == result["metrics"]["test_loss"]
    assert result["checkpoints"]["latest"]["sha256"]
    assert result["goodput"]["lost_steps"] == 0
    assert 0 < result["goodput"]["productive_seconds"] < result["goodput"]["elapsed_seconds"]
    (attempt,) = result["attempts"]
    assert (attempt["attempt"], attempt["ended"], attempt["step"]) == (1, "done", 18)
    assert attempt["hosts"][0].count(": ") == 1


def test_every_attempt_leaves_a_record_and_the_result_knows_them(tmp_path: Path) -> None:
    policy = {"everySteps": 4, "keepLast": 9, "async": False}
    first = tiny_rank(tmp_path, config={"fail_at": 11}, checkpoint=policy)
    with pytest.raises(ArithmeticError):
        train(first)
    second = tiny_rank(tmp_path, attempt=2, checkpoint=policy)
    with pytest.raises(Stopped):
        train(second, lambda recipe: recipe.position.step == 14)
    storage_of(first).delete(["attempts/a3.json"])
    end = {"attempt": 3, "node": 0, "exit_code": 137, "message": "rank 0 was killed by SIGKILL"}
    storage_of(first).write(attempt_end_file(3, 0), json.dumps(end).encode())
    train(tiny_rank(tmp_path, attempt=4, checkpoint=policy))
    one, two, three, four = result_of(first)["attempts"]
    assert (one["ended"], one["message"]) == (
        "failed",
        "ArithmeticError: the recipe's own failure\nin step 11 of stage 'train' on rank 0, "
        "samples 32, 22, 2, 43, 1, 19, 42, 0",
    )
    assert (two["ended"], two["from_step"], two["step"]) == ("stopped", 8, 14)
    assert three["nodes"] == [
        {"node": 0, "exit_code": 137, "message": "rank 0 was killed by SIGKILL"}
    ]
    assert (four["ended"], four["from_step"], four["step"]) == ("done", 14, 18)
    goodput = result_of(first)["goodput"]
    assert goodput["lost_steps"] == 10 - 8
    parts = [value for name, value in goodput.items() if name.endswith("_seconds")]
    assert sum(parts) == pytest.approx(2 * goodput["elapsed_seconds"], abs=0.01)
    report = Report.from_json(report_file(tiny_rank(tmp_path, attempt=4).run.scratch).read_text())
    assert report.goodput is not None
    assert report.goodput["lostSteps"] == 2


def test_changed_configuration_is_told_once_with_its_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = tiny_rank(tmp_path)
    with pytest.raises(Stopped):
        train(first, lambda recipe: recipe.position.step == 7)
    second = tiny_rank(
        tmp_path, attempt=2, overrides=["training.learning_rate=0.01", "training.ema_decay=null"]
    )
    train(second)
    changes = ["training.learning_rate: 0.001 -> 0.01"]
    assert result_of(second)["attempts"][1]["config_changes"] == changes
    assert attempt_of(second, 1)["config_changes"] == []
    told = [r.getMessage() for r in caplog.records if "configuration is not" in r.getMessage()]
    assert told == [f"The configuration is not the checkpoint's: {changes[0]}"]


def record(attempt: int, *, began: float, seen: float, **more: Any) -> AttemptRecord:
    return AttemptRecord(
        attempt=attempt, started=began - 2, training_began=began, seen=seen, **more
    )


def test_time_of_a_run_is_divided_without_a_rest() -> None:
    records = [
        record(1, began=102, seen=160, step=50, training_seconds=50, checkpoint_seconds=5),
        AttemptRecord(attempt=2, started=170, seen=171),
        record(3, began=180, seen=240, from_step=40, step=90, training_seconds=55),
    ]
    found = measure(records, productive=95, now=240)
    assert found.to_result() == {
        "ratio": round(95 / 140, 4),
        "elapsed_seconds": 140,
        "productive_seconds": 95,
        "repeated_seconds": 10,
        "checkpoint_seconds": 5,
        "start_seconds": 2,
        "restart_seconds": 20,
        "other_seconds": 8,
        "lost_steps": 10,
    }
    assert found.to_report() == {
        "productiveSeconds": 95,
        "lostSteps": 10,
        "restartSeconds": 20,
        "checkpointSeconds": 5,
        "ratio": "0.68",
    }


def test_time_after_an_attempt_that_came_to_no_step_counts_as_restart() -> None:
    killed = AttemptRecord(attempt=1, started=100, seen=103)
    found = measure([killed, record(2, began=163, seen=200)], productive=37, now=200)
    assert (found.start, found.restart, found.elapsed) == (3, 60, 100)


def test_stopwatch_goes_on_where_a_checkpoint_was_and_leaves_pauses_out() -> None:
    clock = Stopwatch()
    clock.take_over(100.0)
    with clock.paused():
        pass
    assert (clock.seconds, clock.seconds_here, clock.first_started) == (100.0, 0.0, None)
    clock.start()
    with clock.paused():
        before = clock.seconds
        assert clock.seconds == before
    clock.stop()
    assert clock.seconds == 100.0 + clock.seconds_here
    assert clock.first_started is not None


def test_attempt_record_survives_its_file() -> None:
    before = record(3, began=1000.25, seen=1001.5, step=4, hosts=["a: cpu"])
    fields = before.to_dict()
    assert fields["training_began"] == "1970-01-01T00:16:40.250Z"
    assert AttemptRecord.from_dict(json.loads(json.dumps(fields | {"later": 1}))) == before


def test_fingerprint_sees_names_and_sizes_and_says_so(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "1.png").write_bytes(b"x" * 10)
        (tmp_path / folder / "2.png").write_bytes(b"x")
    one, other = fingerprint(tmp_path / "a"), fingerprint(tmp_path / "b")
    assert one == other
    assert (one["files"], one["bytes"], one["complete"]) == (2, 11, True)
    assert one["covers"] == "names and sizes of the files, not what is in them"
    (tmp_path / "b" / "2.png").write_bytes(b"xy")
    assert fingerprint(tmp_path / "b")["sha256"] != one["sha256"]
    cut = fingerprint(tmp_path / "b", seconds=-1)
    assert (cut["files"], cut["complete"]) == (1, False)


def test_module_outside_any_checkout_has_no_revision() -> None:
    assert revision_of("torch") is None
