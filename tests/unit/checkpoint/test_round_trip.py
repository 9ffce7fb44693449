import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from trainyard_trainer.checkpoint import Position, Retention, load_from, load_latest
from trainyard_trainer.manifest import Best, list_manifests, verify
from trainyard_trainer.rng import capture_rng, restore_rng
from trainyard_trainer.storage_errors import CheckpointNotFound, StateNotPlain


def same(left, right):
    assert_close(left, right, rtol=0, atol=0)


def test_a_run_without_checkpoints_starts_from_nothing(storage):
    assert load_latest(storage) is None


def test_what_was_saved_is_loaded(make_checkpointer, make_state, save, storage):
    checkpointer = make_checkpointer()
    assert save(checkpointer, 2, val_loss=0.5, nan=float("nan"))
    loaded = make_checkpointer(attempt=2).load_latest()
    same(loaded.state, make_state(2))
    assert loaded.state["model"]._metadata == make_state(2)["model"]._metadata
    assert loaded.warning is None
    assert loaded.manifest.metrics == {"val_loss": 0.5}
    verify(storage, loaded.manifest)


def test_the_weights_are_a_file_that_torch_loads_alone(make_checkpointer, save, storage, tmp_path):
    save(make_checkpointer(), 2)
    manifest = list_manifests(storage).valid[0]
    file = tmp_path / "store" / manifest.weights.key
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    model.load_state_dict(torch.load(file, weights_only=True))


def test_the_same_state_gives_the_same_bytes(make_checkpointer, make_state, tmp_path):
    def digests(attempt):
        checkpointer = make_checkpointer(attempt=attempt)
        checkpointer.save(Position(step=3), make_state(3), blocking=True)
        folder = tmp_path / f"store/checkpoints/step-000000000003-a{attempt}"
        return {p.name: p.read_bytes() for p in folder.glob("*.pt")}

    assert digests(1) == digests(2)


def test_training_may_go_on_while_a_save_uploads(make_checkpointer, make_state, storage):
    checkpointer, state = make_checkpointer(), make_state(1)
    expected = make_state(1)
    checkpointer.save(Position(step=1), state)
    for tensor in state["model"].values():
        tensor.zero_()
    checkpointer.close()
    same(load_latest(storage).state, expected)


def test_a_second_save_of_a_step_does_nothing(make_checkpointer, save, make_state):
    checkpointer = make_checkpointer()
    save(checkpointer, 1)
    before = checkpointer.last_saved
    assert checkpointer.save(Position(step=1), make_state(1)) is True
    assert checkpointer.save(Position(step=1), make_state(1), blocking=True) is True
    assert (checkpointer.last_saved, checkpointer.timing.saves) == (before, 1)


def test_the_step_resumed_from_is_not_saved_again(make_checkpointer, save):
    save(make_checkpointer(), 1)
    checkpointer = make_checkpointer(attempt=2)
    checkpointer.load_latest()
    assert save(checkpointer, 1)
    assert checkpointer.timing.saves == 0


def test_the_newest_step_wins_and_then_the_newest_attempt(make_checkpointer, save, storage):
    save(make_checkpointer(attempt=1), 2)
    save(make_checkpointer(attempt=2), 1)
    save(make_checkpointer(attempt=3), 2)
    manifest = load_latest(storage).manifest
    assert (manifest.step, manifest.attempt) == (2, 3)


def test_the_report_names_latest_best_and_how_many(make_checkpointer, save, storage):
    checkpointer = make_checkpointer(keep=Retention(last=1, best=Best(metric="loss")))
    save(checkpointer, 1, loss=0.25)
    save(checkpointer, 2, loss=0.5)
    first, second = reversed(list_manifests(storage).valid)
    assert checkpointer.last_saved.to_report() == {
        "step": 2,
        "epoch": 1,
        "uri": storage.uri_of("checkpoints/step-000000000002-a1"),
        "bytes": second.size_bytes,
        "sha256": second.digest,
        "time": second.created_at,
    }
    assert checkpointer.best.to_report() == {
        "step": 1,
        "epoch": 1,
        "uri": storage.uri_of("checkpoints/step-000000000001-a1"),
        "bytes": first.size_bytes,
        "sha256": first.digest,
        "time": first.created_at,
        "metric": "loss",
        "value": "0.25",
    }
    assert checkpointer.kept == 2
    resumed = make_checkpointer(attempt=2, keep=Retention(last=1, best=Best(metric="loss")))
    resumed.load_latest()
    assert (resumed.last_saved, resumed.best, resumed.kept) == (
        checkpointer.last_saved,
        checkpointer.best,
        2,
    )


@pytest.mark.parametrize(("which", "step"), [("latest", 3), ("best", 2), ("1", 1), (3, 3)])
def test_another_run_can_be_started_from(make_checkpointer, save, storage, which, step):
    checkpointer = make_checkpointer(keep=Retention(last=3, best=Best(metric="loss")))
    for number, loss in ((1, 0.3), (2, 0.1), (3, 0.2)):
        save(checkpointer, number, loss=loss)
    assert load_from(storage, which).manifest.step == step


@pytest.mark.parametrize("which", ["latest", "best", "7"])
def test_a_checkpoint_that_is_not_there_is_named(storage, which):
    with pytest.raises(CheckpointNotFound, match=f"holds no checkpoint '{which}'"):
        load_from(storage, which)


def test_random_numbers_go_on_where_they_were(make_checkpointer, storage):
    def draw():
        return random.random(), random.gauss(0, 1), np.random.randn(), torch.randn(3).tolist()

    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    draw()
    make_checkpointer().save(Position(step=1), {}, rank_state={"rng": capture_rng()}, blocking=True)
    expected = [draw(), draw()]
    restore_rng(load_latest(storage).rank_state["rng"])
    assert [draw(), draw()] == expected


def test_every_plain_value_survives(make_checkpointer, storage):
    tied = torch.arange(4.0)
    state = {
        "none": None,
        "flag": True,
        "text": "é",
        "bytes": b"\x00\xff",
        "list": [1, (2.5, {"deep": torch.tensor(3)})],
        "ordered": OrderedDict(b=1, a=2),
        "empty": torch.empty(0, 3),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "strided": torch.arange(6).view(2, 3).t(),
        "tied": [tied, tied],
        7: "integer keys, as optimizers have them",
    }
    make_checkpointer().save(Position(step=1), state | {"np": np.float64(0.5)}, blocking=True)
    loaded = load_latest(storage).state
    assert loaded.pop("np") == 0.5
    assert list(loaded) == list(state)
    assert loaded["tied"][0].data_ptr() == loaded["tied"][1].data_ptr()
    for key, value in state.items():
        assert type(loaded[key]) is type(value)
        if isinstance(value, torch.Tensor):
            same(loaded[key], value)
    assert loaded["list"][1][1]["deep"] == 3


@pytest.mark.parametrize(
    ("value", "kind"), [(Path(), "PosixPath"), ({1}, "set"), (np.zeros(2), "ndarray")]
)
def test_a_value_that_could_not_be_loaded_is_refused_at_once(make_checkpointer, value, kind):
    with pytest.raises(StateNotPlain) as caught:
        make_checkpointer().save(Position(step=1), {"a": {"b": [value]}})
    assert (caught.value.path, caught.value.kind) == ("shared.a.b[0]", kind)
