"""Gangs of two processes over gloo; each test imports torch once and forks from there."""

import re
from pathlib import Path

import pytest
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
from trainyard_trainer.restore import load_checkpoint

pytestmark = pytest.mark.slow
SAVING = {"everySteps": 2, "keepLast": 99, "async": False}


@pytest.mark.parametrize(
    ("recipe", "nodes", "more"),
    [
        # With more than two ranks the order of a sum matters, and with it DDP's buckets.
        pytest.param("tiny", 4, [], id="four ranks under DDP"),
        # Ranks write parts of the raw weights, but rank 0 alone its running statistics.
        pytest.param("tiny", 2, ["training.ema_decay=0.9"], id="two ranks with an average"),
        pytest.param("tiny-gan", 2, [], id="two ranks with two optimizers"),
    ],
)
def test_killed_gang_goes_on_as_if_it_had_not_been_killed(
    tmp_path: Path, recipe: str, nodes: int, more: list[str]
) -> None:
    wide = {"nodes": nodes, "overrides": ["training.batch_size=16", *more]}
    common = wide | {"checkpoint": SAVING, "recipe": recipe}
    codes, log = run_gangs(
        tmp_path,
        [
            common | {"place": "a"},
            common | {"place": "b", "config": {"kill_at": 6}},
            common | {"place": "b", "attempt": 2},
        ],
    )
    survivors = [ExitCode.PEER_LOST] * (nodes - 1)
    assert codes == [[0] * nodes, [*survivors, -9], [0] * nodes], log
    whole, second = tiny_rank(tmp_path / "a", recipe=recipe), tiny_rank(tmp_path / "b")
    assert min(m.step for m in manifests_of(second) if m.attempt == 2) >= 2
    one, other = manifests_of(whole)[0], manifests_of(second)[0]
    for rank in range(nodes):
        mine = load_checkpoint(storage_of(whole), one, rank)
        theirs = load_checkpoint(storage_of(second), other, rank)
        assert_equal_states(mine.state, theirs.state)
        assert_equal_states(mine.rank_state, theirs.rank_state)
    assert result_of(whole)["metrics"] == result_of(second)["metrics"]


def test_smaller_gang_goes_on_with_the_same_samples_in_the_same_steps(tmp_path: Path) -> None:
    plain = {"noise": 0, "dropout": 0, "norm": False}
    codes, log = run_gangs(
        tmp_path,
        [
            {"place": "a", "nodes": 1, "config": plain, "checkpoint": SAVING},
            {"place": "b", "nodes": 2, "config": plain | {"stop_at": 7}, "checkpoint": SAVING},
            {"place": "b", "nodes": 1, "config": plain, "checkpoint": SAVING, "attempt": 2},
        ],
    )
    assert codes == [[0], [ExitCode.CHECKPOINTED] * 2, [0]], log
    assert "The checkpoint is from 2 ranks, this attempt has 1: the global batch stays" in log
    whole, second = newest(tiny_rank(tmp_path / "a")), newest(tiny_rank(tmp_path / "b"))
    assert whole.manifest.step == second.manifest.step
    assert whole.manifest.samples_seen == second.manifest.samples_seen
    for name, weight in whole.state["model"].items():
        assert weight.allclose(second.state["model"][name], rtol=1e-3, atol=1e-5), name


def test_all_ranks_stop_at_the_step_that_one_was_told_at(tmp_path: Path) -> None:
    told = {"stop_at": 7, "stop_rank": 1}
    codes, log = run_gangs(tmp_path, [{"place": "a", "nodes": 2, "config": told}])
    assert codes == [[ExitCode.CHECKPOINTED] * 2], log
    manifest = manifests_of(tiny_rank(tmp_path / "a"))[0]
    assert 7 <= manifest.step < 18
    assert {part.rank for part in manifest.parts} == {0, 1}
    stopped = re.findall(r"rank (\d): Stopped on request at step (\d+)", log)
    assert sorted(stopped) == [("0", str(manifest.step)), ("1", str(manifest.step))]
