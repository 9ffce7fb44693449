"""Storage may vanish, or the process die, after any single change."""

import shutil
import signal

import pytest
from chaos.compare import state_differences
from chaos.saver import make_checkpointer as make_saver
from chaos.saver import state_at
from chaos.savers import start_savers

from trainyard_trainer.checkpoint import Position, Retention, load_latest
from trainyard_trainer.manifest import list_manifests, verify

pytestmark = pytest.mark.slow

KEEP = Retention(last=1)


def count_changes(make_checkpointer, save, dying, storage) -> int:
    counting = dying(storage.child("counted"), 10**9)
    checkpointer = make_checkpointer(keep=KEEP, storage=counting)
    save(checkpointer, 1)
    before = counting.changes
    save(checkpointer, 2)
    return counting.changes - before


def test_a_crash_after_any_change_leaves_a_checkpoint(make_checkpointer, save, dying, storage):
    total = count_changes(make_checkpointer, save, dying, storage)
    assert total > 20
    outcomes = []
    for budget in range(total + 1):
        run = storage.child(f"run-{budget}")
        save(make_checkpointer(keep=KEEP, storage=run), 1)
        save(make_checkpointer(keep=KEEP, storage=dying(run, budget)), 2)
        for manifest in list_manifests(run).valid:
            verify(run, manifest)
        outcomes.append(load_latest(run).manifest.step)
    assert outcomes == sorted(outcomes)
    assert {outcomes[0], outcomes[-1]} == {1, 2}


@pytest.mark.parametrize("budget", [0, 5, 12])
def test_a_failed_save_warns_and_the_next_one_succeeds(
    make_checkpointer, save, dying, storage, budget
):
    broken = dying(storage, budget)
    checkpointer = make_checkpointer(storage=broken)
    assert save(checkpointer, 1) is False
    assert checkpointer.warning == (
        "Checkpoint step 1 was not saved: spec.storage: here cannot be reached to write (dead); "
        "check the endpoint and the network."
    )
    assert (checkpointer.last_saved, checkpointer.timing.failures) == (None, 1)
    broken.budget = 10**9
    assert save(checkpointer, 2)
    assert checkpointer.warning is None


def test_the_same_step_can_be_saved_after_any_failure(make_checkpointer, save, dying, storage):
    total = count_changes(make_checkpointer, save, dying, storage)
    for budget in range(total):
        run = storage.child(f"run-{budget}")
        broken = dying(run, budget)
        checkpointer = make_checkpointer(storage=broken)
        save(checkpointer, 1)
        broken.budget = 10**9
        assert save(checkpointer, 1)
        verify(run, list_manifests(run).valid[0])


def test_what_could_not_be_deleted_goes_with_the_next_save(make_checkpointer, save, dying, storage):
    broken = dying(storage, 10**9)
    checkpointer = make_checkpointer(keep=KEEP, storage=broken)
    save(checkpointer, 1)
    broken.delete = refuse
    assert save(checkpointer, 2)
    assert checkpointer.warning.startswith("Old checkpoints were not deleted: ")
    assert checkpointer.kept == 2
    del broken.delete
    assert save(checkpointer, 3)
    assert (checkpointer.warning, checkpointer.kept) == (None, 1)


def refuse(keys):
    from trainyard_trainer.storage_errors import AccessRefused

    raise AccessRefused("here", "delete", "access denied")


def test_a_kill_before_any_file_operation_leaves_the_old_or_the_new_checkpoint(memory):
    before, store = memory / "before", memory / "store"
    with start_savers() as savers:
        assert savers.save(before.as_uri(), 1).code == 0
        shutil.copytree(before, store)
        whole = savers.save(store.as_uri(), 2)
        assert (whole.code, whole.operations > 20) == (0, True)
        found = []
        for at in range(whole.operations):
            shutil.rmtree(store)
            shutil.copytree(before, store)
            ended = savers.save(store.as_uri(), 2, die_at=at)
            assert ended == (-signal.SIGKILL, at)
            resumed = make_saver(store.as_uri(), None, attempt=2)
            loaded = resumed.load_latest()
            assert not state_differences(loaded.state, state_at(loaded.manifest.step, 100), "state")
            assert resumed.warning is None
            found.append(loaded.manifest.step)
            assert resumed.save(Position(step=3), state_at(3, 100), blocking=True)
    assert found == sorted(found)
    assert {*found} == {1, 2}
