"""Options and reports of several ranks, each gang two processes over gloo."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from unit.engine.gang import run_gangs
from unit.engine.tiny import (
    TRAIN,
    assert_equal_states,
    manifests_of,
    newest,
    storage_of,
    tiny_rank,
)

from trainyard_operator.contract import ExitCode
from trainyard_trainer.restore import load_checkpoint
from trainyard_trainer.sampler import ShuffledSampler

pytestmark = pytest.mark.slow
PLAIN = {"noise": 0, "dropout": 0, "norm": False}
SAVING = {"everySteps": 2, "keepLast": 99}
RECIPES = "unit.engine.gang_recipes"


def with_options(**options: Any) -> dict[str, Any]:
    return PLAIN | {"training": {"distributed": options}}


def test_options_of_ddp_do_not_change_what_is_learnt(tmp_path: Path) -> None:
    """But for compression, which may cost digits: powersgd with its full rank hardly any."""
    options: dict[str, tuple[dict[str, Any], float]] = {
        "copy": ({"gradient_as_bucket_view": False}, 1e-4),
        "static": ({"static_graph": True}, 1e-4),
        "unused": ({"find_unused_parameters": True}, 1e-4),
        "local": ({"broadcast_buffers": False}, 1e-4),
        "buckets": ({"bucket_mebibytes": 1}, 1e-4),
        "fp16": ({"compression": "fp16"}, 5e-3),
        "bf16": ({"compression": "bf16"}, 2e-2),
        "powersgd": ({"compression": "powersgd", "powersgd_start_step": 2}, 0.1),
    }
    gangs = [
        {"place": name, "nodes": 2, "config": with_options(**chosen)}
        for name, (chosen, _) in options.items()
    ]
    codes, log = run_gangs(tmp_path, [{"place": "alone", "nodes": 1, "config": PLAIN}, *gangs])
    assert codes == [[0], *[[0, 0]] * len(gangs)], log
    whole = newest(tiny_rank(tmp_path / "alone")).state["model"]
    for name, (_, tolerance) in options.items():
        for key, weight in newest(tiny_rank(tmp_path / name)).state["model"].items():
            assert weight.allclose(whole[key], rtol=tolerance, atol=tolerance), (name, key)


def test_accumulation_reduces_gradients_once_a_step(tmp_path: Path) -> None:
    config = {"norm": False, "training": {"batch_size": 16, "micro_batch_size": 2}}
    common = {"nodes": 2, "recipe": "gang-counted", "module": RECIPES, "config": config}
    codes, log = run_gangs(tmp_path, [common | {"place": "a"}])
    assert codes == [[0, 0]], log
    rank = tiny_rank(tmp_path / "a")
    steps, settling = newest(rank).manifest.step, 2
    assert int(storage_of(rank).read("counted.txt")) == steps + settling


@pytest.mark.parametrize(
    "training",
    [
        pytest.param(
            {"distributed": {"compression": "powersgd", "powersgd_start_step": 2}}, id="powersgd"
        ),
        pytest.param(
            {"distributed": {"static_graph": True}, "micro_batch_size": 3}, id="static graph"
        ),
        pytest.param({"distributed": {"broadcast_buffers": False}}, id="buffers apart"),
        pytest.param({"precision": "fp16", "clip_grad_norm": 1.0}, id="scaled"),
    ],
)
def test_options_go_on_as_if_never_interrupted(tmp_path: Path, training: dict[str, Any]) -> None:
    common = {"nodes": 2, "checkpoint": SAVING | {"async": False}}
    config = {"training": training | {"batch_size": 16}}
    codes, log = run_gangs(
        tmp_path,
        [
            common | {"place": "a", "config": config},
            common | {"place": "b", "config": config | {"kill_at": 6}},
            common | {"place": "b", "config": config, "attempt": 2},
        ],
    )
    assert codes == [[0, 0], [ExitCode.PEER_LOST, -9], [0, 0]], log
    whole, second = tiny_rank(tmp_path / "a"), tiny_rank(tmp_path / "b")
    for rank in range(2):
        mine = load_checkpoint(storage_of(whole), manifests_of(whole)[0], rank)
        theirs = load_checkpoint(storage_of(second), manifests_of(second)[0], rank)
        assert_equal_states(mine.state, theirs.state)
        assert_equal_states(mine.rank_state, theirs.rank_state)


def test_parameters_without_gradient_need_to_be_announced(tmp_path: Path) -> None:
    common = {"nodes": 2, "recipe": "gang-branches", "module": RECIPES}
    announced = {"training": {"distributed": {"find_unused_parameters": True}}}
    codes, log = run_gangs(
        tmp_path, [common | {"place": "a"}, common | {"place": "b", "config": announced}]
    )
    assert codes == [[1, 1], [0, 0]], log
    assert "find_unused_parameters" in log


def test_ranks_end_with_the_same_sentence_that_names_the_rank_at_fault(tmp_path: Path) -> None:
    codes, log = run_gangs(
        tmp_path,
        [{"place": "a", "nodes": 2, "recipe": "gang-spoilt", "module": RECIPES}],
    )
    assert codes == [[1, 1]], log
    told = [line.partition(": ") for line in log.splitlines() if "Training diverged" in line]
    assert sorted(line[0] for line in told) == ["rank 0", "rank 1"]
    sentences = {line[2] for line in told}
    assert len(sentences) == 1, log
    assert "sample 17 held values that are not finite" in sentences.pop()


def test_slow_rank_is_told_and_scored(tmp_path: Path) -> None:
    config = {"training": {"epochs": 6, "evaluate_every_epochs": 99}}
    common = {"nodes": 2, "recipe": "gang-slow", "module": RECIPES, "config": config}
    codes, log = run_gangs(tmp_path, [common | {"place": "a"}])
    assert codes == [[0, 0]], log
    assert "Rank 1 is slow: data and forward pass take it " in log
    header, rows = scores(tiny_rank(tmp_path / "a"))
    assert {"straggler_rank", "straggler_worst"} <= set(header)
    last = [row for row in rows if row["straggler_worst"]][-1]
    assert float(last["straggler_rank"]) == 1
    assert float(last["straggler_worst"]) > 1.5


def scores(rank: Any) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(storage_of(rank).read("metrics.csv").decode()))
    rows = list(reader)
    return list(reader.fieldnames or ()), rows


@pytest.mark.parametrize("nodes", [2, 3])
def test_gang_evaluates_sample_by_sample_what_one_rank_does(tmp_path: Path, nodes: int) -> None:
    """The second attempt only judges what the first has left; all ranks have the same buffers."""
    common: dict[str, Any] = {"recipe": "gang-evaluated", "module": RECIPES}
    common["overrides"] = ["training.epochs=1", "training.batch_size=16"]
    rank, found = tiny_rank(tmp_path / "a"), []
    for attempt, size in ((1, nodes), (2, 1)):
        codes, log = run_gangs(
            tmp_path, [common | {"place": "a", "nodes": size, "attempt": attempt}]
        )
        assert codes == [[0] * size], log
        found.append(json.loads(storage_of(rank).read("losses.json")))
        storage_of(rank).delete(["result.json", "losses.json"])
    gang, alone = found
    assert gang.keys() == alone.keys() == {"validation", "test"}
    for split, losses in gang.items():
        assert losses == pytest.approx(alone[split], rel=1e-4), split


def test_evaluation_takes_one_reduction_once_ranks_have_compared_notes(tmp_path: Path) -> None:
    options = ["training.epochs=2", "training.batch_size=16", "training.evaluation_batch_size=16"]
    common = {"recipe": "gang-reduced", "module": RECIPES, "overrides": options}
    codes, log = run_gangs(tmp_path, [common | {"place": "a", "nodes": 2}])
    assert codes == [[0, 0]], log
    storage = storage_of(tiny_rank(tmp_path / "a"))
    calls = [json.loads(storage.read(f"calls-{epoch}.json")) for epoch in range(2)]
    assert calls == [["all_gather_object", "reduce"], ["reduce"]]


def test_gang_that_grows_and_shrinks_sees_each_sample_once_an_epoch(tmp_path: Path) -> None:
    common = {"place": "a", "recipe": "gang-noting", "module": RECIPES}
    codes, log = run_gangs(
        tmp_path,
        [
            common | {"nodes": 2, "config": PLAIN | {"stop_at": 4}},
            common | {"nodes": 1, "config": PLAIN | {"stop_at": 9}, "attempt": 2},
            common | {"nodes": 2, "config": PLAIN, "attempt": 3},
        ],
    )
    assert codes == [[ExitCode.CHECKPOINTED] * 2, [ExitCode.CHECKPOINTED], [0, 0]], log
    seen: dict[int, list[int]] = {}
    for file in (tmp_path / "a").glob("scratch-*/seen"):
        own: dict[int, set[int]] = {}  # A set: settling passes read the first step's samples, too.
        for line in file.read_text().splitlines():
            step, *samples = map(int, line.split())
            own.setdefault(step, set()).update(samples)
        for step, read in own.items():
            seen.setdefault(step, []).extend(read)
    sampler = ShuffledSampler(TRAIN, 42)
    assert sorted(seen) == list(range(18))
    for epoch in range(3):
        cursor = 0
        for step in range(6 * epoch, 6 * epoch + 6):
            indices, cursor = sampler.take(epoch, cursor, 8)
            assert sorted(seen[step]) == sorted(indices.tolist()), step
