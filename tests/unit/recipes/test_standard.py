"""What every recipe must do, at its smallest: the same with one rank, with two, and when killed."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from recipe_cases import Case
from unit.engine.gang import run_gangs
from unit.engine.tiny import (
    assert_equal_states,
    manifests_of,
    newest,
    result_of,
    storage_of,
    tiny_rank,
)

from trainyard_operator.contract import ExitCode
from trainyard_trainer.config import build_config
from trainyard_trainer.registry import config_class

pytestmark = pytest.mark.slow
KILL_AT = 5
SINGLY = "training.evaluation_batch_size=1"
"""Batches of other sizes may round otherwise."""


@pytest.fixture(scope="module")
def runs(case: Case, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rank; two; a copy of the former judged again by two; two that are killed, and go on.

    A save waits for its upload, so that the kill always finds a checkpoint to go on from.
    """
    place = tmp_path_factory.mktemp("runs")
    common: dict[str, Any] = {
        "recipe": f"{case.recipe}-mortal",
        "module": "unit.recipes.mortal",
        "config": case.config,
        "dataset_path": str(data),
        "checkpoint": {"everySteps": 2, "keepLast": 99, "async": False},
        "overrides": [SINGLY],
    }
    plans = [
        {"place": "one", "nodes": 1},
        {"place": "again", "copy_of": "one", "nodes": 2, "attempt": 2},
        {"place": "two", "nodes": 2},
        {"place": "killed", "nodes": 2, "overrides": [SINGLY, f"kill_at={KILL_AT}"]},
        {"place": "killed", "nodes": 2, "attempt": 2},
    ]
    codes, log = run_gangs(place, [common | plan for plan in plans])
    assert codes == [[0], [0, 0], [0, 0], [ExitCode.PEER_LOST, -9], [0, 0]], log
    return place


def judged(place: Path) -> dict[str, Any]:
    """Final metrics, and every report on the final splits."""
    storage = storage_of(tiny_rank(place))
    metrics = result_of(tiny_rank(place))["metrics"]
    reports = {e.key: storage.read(e.key).decode() for e in storage.list("reports/")}
    finals = {name: value for name, value in metrics.items() if name.startswith("test_")}
    return {"metrics": finals, "reports": reports}


def losses_of(place: Path) -> list[float]:
    """Each epoch's mean over all ranks and stages."""
    text = storage_of(tiny_rank(place)).read("metrics.csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    names = [name for name in rows[0] if name.startswith("train_") and name.endswith("loss")]
    return [float(row[name]) for row in rows for name in names if row[name]]


def test_two_ranks_have_the_losses_of_one_with_the_same_global_batch(
    case: Case, runs: Path
) -> None:
    one, two = losses_of(runs / "one"), losses_of(runs / "two")
    assert len(one) >= 2
    assert two == pytest.approx(one, rel=case.tolerance, abs=1e-4)


def test_two_ranks_judge_every_sample_as_one_does(runs: Path) -> None:
    found = judged(runs / "again")
    assert repr(found) == repr(judged(runs / "one"))
    assert result_of(tiny_rank(runs / "again"))["world_size"] == 2
    assert found["metrics"]
    assert found["reports"]


def test_every_metric_of_a_run_was_named_beforehand(case: Case, runs: Path) -> None:
    named = build_config(config_class(case.recipe), [case.config]).metric_names()
    found = result_of(tiny_rank(runs / "one"))["metrics"]
    judged = {name.partition("_")[2] for name in found if name.startswith(("val_", "test_"))}
    assert judged
    assert judged <= set(named)


def test_a_killed_run_goes_on_to_the_bit(runs: Path) -> None:
    whole, killed = tiny_rank(runs / "two"), tiny_rank(runs / "killed")
    assert {manifest.attempt for manifest in manifests_of(killed)} == {1, 2}
    assert_equal_states(newest(whole).state, newest(killed).state)
    assert result_of(whole)["metrics"] == result_of(killed)["metrics"]
