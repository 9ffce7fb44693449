"""Training does not wait for storage, but for what it cannot do without."""

import contextlib
import re
import threading

import pytest
import torch

from trainyard_trainer.checkpoint import Need, Position


class Gate:
    """A storage whose writers wait until `open` is set."""

    def __init__(self, storage):
        self._storage, self.open = storage, threading.Event()

    def __getattr__(self, name):
        return getattr(self._storage, name)

    @contextlib.contextmanager
    def open_writer(self, key):
        assert self.open.wait(20)
        with self._storage.open_writer(key) as writer:
            yield writer


@pytest.fixture
def gate(storage):
    gate = Gate(storage)
    yield gate
    gate.open.set()


STATE = {"model": {"w": torch.arange(4.0)}}


def test_a_save_that_is_due_during_an_upload_is_skipped(gate, make_checkpointer):
    checkpointer = make_checkpointer(storage=gate)
    assert checkpointer.save(1, STATE)
    assert not checkpointer.save(2, STATE)
    assert not checkpointer.save(3, STATE)
    assert (checkpointer.timing.skipped, checkpointer.warning) == (2, None)
    gate.open.set()
    checkpointer.wait()
    assert checkpointer.last_saved.step == 1
    assert checkpointer.save(4, STATE)
    checkpointer.close()
    assert checkpointer.last_saved.step == 4


def test_the_same_step_is_on_its_way(gate, make_checkpointer):
    checkpointer = make_checkpointer(storage=gate)
    assert checkpointer.save(1, STATE)
    assert checkpointer.save(1, STATE)
    assert checkpointer.timing.skipped == 0


def test_a_long_upload_that_others_are_skipped_for_is_told(gate, make_checkpointer, monkeypatch):
    monkeypatch.setattr("trainyard_trainer.checkpoint.SLOW_SECONDS", 0.0)
    checkpointer = make_checkpointer(storage=gate)
    checkpointer.save(1, STATE)
    checkpointer.save(2, STATE)
    assert re.fullmatch(
        r"Storage is slow: checkpoint step 1 has been uploading for \d+ s, 1 later one\(s\) were "
        r"skipped; training goes on\.",
        checkpointer.warning,
    )
    gate.open.set()
    checkpointer.wait()
    assert checkpointer.warning is None


@pytest.mark.parametrize("need", [Need.BEST, Need.REQUIRED])
def test_what_is_worth_it_waits(gate, make_checkpointer, need):
    checkpointer = make_checkpointer(storage=gate)
    checkpointer.save(1, STATE)
    threading.Timer(0.05, gate.open.set).start()
    assert checkpointer.save(2, STATE, need=need)
    checkpointer.close()
    assert (checkpointer.last_saved.step, checkpointer.timing.skipped) == (2, 0)


def test_a_best_model_does_not_wait_for_storage_that_is_away(gate, make_checkpointer, monkeypatch):
    monkeypatch.setattr("trainyard_trainer.checkpoint.BEST_SECONDS", 0.01)
    checkpointer = make_checkpointer(storage=gate)
    checkpointer.save(1, STATE)
    assert not checkpointer.save(2, STATE, need=Need.BEST)


@pytest.mark.parametrize("blocking", [False, True])
def test_a_required_save_has_a_time_limit(gate, make_checkpointer, blocking):
    checkpointer = make_checkpointer(storage=gate)
    checkpointer.required_seconds = 0.01
    checkpointer.save(1, STATE)
    assert not checkpointer.save(2, STATE, need=Need.REQUIRED, blocking=blocking)
    assert checkpointer.warning == (
        "Checkpoint step 2 was not saved: the upload of step 1 was not done within 0 s."
    )


def test_a_blocking_save_is_tried_again_while_storage_is_away(make_checkpointer, dying, storage):
    broken = dying(storage, 0)
    checkpointer = make_checkpointer(storage=broken)
    checkpointer.retry_pauses = (0.0, 0.0)
    tries = []
    run = checkpointer._uploader.store

    def store(upload):
        tries.append(upload.position.step)
        broken.budget = 0 if len(tries) < 3 else 10**9
        return run(upload)

    checkpointer._uploader.store = store
    assert checkpointer.save(Position(step=5), STATE, blocking=True)
    assert (tries, checkpointer.warning, checkpointer.timing.failures) == ([5, 5, 5], None, 2)


def test_the_state_of_the_step_that_was_asked_for_is_stored(gate, make_checkpointer, storage):
    """The host buffers of an upload under way are not used for the next snapshot."""
    checkpointer = make_checkpointer(storage=gate)
    checkpointer.save(1, {"model": {"w": torch.full((4,), 1.0)}})
    checkpointer.save(2, {"model": {"w": torch.full((4,), 2.0)}})
    gate.open.set()
    checkpointer.close()
    assert make_checkpointer(attempt=2).load_latest().state["model"]["w"].tolist() == [1.0] * 4
