"""Two ranks with stages and with two optimizers, killed again and again; and their profiles."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from unit.engine.gang import run_gangs
from unit.engine.tiny import (
    assert_equal_states,
    manifests_of,
    result_of,
    storage_of,
    tiny_rank,
)

from trainyard_operator.contract import ExitCode
from trainyard_trainer.restore import load_checkpoint

pytestmark = pytest.mark.slow
RECIPES = "unit.engine.gang_staged"
PLAN: dict[str, Any] = {
    "schedule": {"name": "plateau", "patience": 0, "gamma": 0.5},
    "early_stopping": {"patience": 9},
    "ema_decay": 0.8,
}


@pytest.mark.parametrize(
    ("recipe", "training", "kills"),
    [
        # 6 steps with a frozen body, 12 with all of it under another optimizer, 4 of a curriculum.
        pytest.param("gang-plan", PLAN, (2, 6, 7, 13, 19, 21), id="freeze and unfreeze"),
        # The generator is stepped in every other step, the critic twice in each.
        pytest.param("gang-critic", {"micro_batch_size": 4}, (1, 2, 5, 8, 9), id="two optimizers"),
    ],
)
def test_gang_killed_at_many_steps_ends_as_one_that_was_not(
    tmp_path: Path, recipe: str, training: dict[str, Any], kills: tuple[int, ...]
) -> None:
    config = {"training": training | {"batch_size": 16}}
    common = {"nodes": 2, "recipe": recipe, "module": RECIPES}
    common["checkpoint"] = {"everySteps": 2, "keepLast": 99, "async": False}
    phases = [
        common | {"place": "b", "attempt": attempt, "config": config | {"kill_at": step}}
        for attempt, step in enumerate(kills, 1)
    ]
    last = common | {"place": "b", "attempt": len(kills) + 1, "config": config}
    codes, log = run_gangs(tmp_path, [common | {"place": "a", "config": config}, *phases, last])
    assert codes == [[0, 0], *[[ExitCode.PEER_LOST, -9]] * len(kills), [0, 0]], log
    whole, killed = tiny_rank(tmp_path / "a"), tiny_rank(tmp_path / "b")
    one, other = manifests_of(whole)[0], manifests_of(killed)[0]
    assert (one.step, one.stage, one.samples_seen) == (other.step, other.stage, other.samples_seen)
    for rank in range(2):
        mine = load_checkpoint(storage_of(whole), one, rank)
        theirs = load_checkpoint(storage_of(killed), other, rank)
        assert_equal_states(mine.state, theirs.state)
        assert_equal_states(mine.rank_state, theirs.rank_state)
    assert result_of(whole)["metrics"] == result_of(killed)["metrics"]


def test_each_rank_leaves_a_profile_of_the_same_steps(tmp_path: Path) -> None:
    config = {"training": {"epochs": 1, "profile": {"start_step": 2, "steps": 3}}}
    codes, log = run_gangs(tmp_path, [{"place": "a", "nodes": 2, "config": config}])
    assert codes == [[0, 0]], log
    storage = storage_of(tiny_rank(tmp_path / "a"))
    names = [f"profiles/a1/step-{2:012d}-rank-{rank}" for rank in range(2)]
    assert {entry.key for entry in storage.list("profiles/")} == {
        f"{name}.{kind}" for name in names for kind in ("txt", "json.gz")
    }
    for rank, name in enumerate(names):
        events = json.loads(gzip.decompress(storage.read(f"{name}.json.gz")))["traceEvents"]
        steps = [e for e in events if e.get("name", "").startswith("Optimizer.step#AdamW")]
        assert len([e for e in steps if e.get("cat") == "user_annotation"]) == 3
        assert "gloo:all_reduce" in storage.read(f"{name}.txt").decode()
        assert f"Profiled steps 2 to 4: {storage.uri_of(f'{name}.txt')}" in log, rank
