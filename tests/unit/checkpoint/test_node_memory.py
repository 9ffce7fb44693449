"""The newest snapshot lies in the node's memory, and is believed no more than one in storage."""

import dataclasses
import errno

import pytest

from trainyard_trainer.checkpoint import Retention
from trainyard_trainer.manifest import list_manifests, verify
from trainyard_trainer.node_memory import NodeMemory, room_bytes
from trainyard_trainer.storage_errors import NoValidCheckpoint, StorageUnreachable

STEP_2 = "checkpoints/step-000000000002-a1"


class Deaf:
    """A storage that answers nothing."""

    uri = "s3://bucket"

    def __getattr__(self, name):
        def refuse(*_, **__):
            raise StorageUnreachable("here", "list", "no answer")

        return refuse


class PartsForbidden:
    """A storage of which no part may be read."""

    def __init__(self, storage):
        self._storage = storage

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def open_reader(self, key, offset=0):
        raise AssertionError(f"'{key}' was read")


@pytest.fixture
def two_saved(make_checkpointer, save, node_memory):
    """Steps 1 and 2 in storage; returns the checkpointer."""
    checkpointer = make_checkpointer(memory=node_memory)
    assert save(checkpointer, 1, loss=0.5)
    assert save(checkpointer, 2, loss=0.25)
    return checkpointer


@pytest.fixture
def only_remembered(make_checkpointer, save, node_memory, dying, storage):
    """Step 1 in storage, step 2 in memory alone."""
    broken = dying(storage, 10**9)
    checkpointer = make_checkpointer(memory=node_memory, storage=broken)
    assert save(checkpointer, 1)
    broken.budget = broken.changes
    assert not save(checkpointer, 2)
    return checkpointer


def flip(storage, key):
    data = bytearray(storage.read(key))
    data[len(data) // 2] ^= 1
    storage.write(key, bytes(data))


def test_memory_holds_the_newest_alone_and_it_is_the_same(two_saved, node_memory, storage):
    (held,) = list_manifests(node_memory.storage).valid
    assert held == list_manifests(storage).valid[0]
    verify(node_memory.storage, held)
    assert two_saved.timing.memory_bytes == held.size_bytes


def test_a_resume_reads_no_part_from_storage(make_checkpointer, two_saved, node_memory, storage):
    resumed = make_checkpointer(2, storage=PartsForbidden(storage), memory=node_memory)
    assert resumed.load_latest().manifest.step == 2
    assert (resumed.last_saved.step, resumed.kept, resumed.warning) == (2, 2, None)


def test_a_resume_needs_no_storage_at_all(make_checkpointer, two_saved, node_memory, make_state):
    resumed = make_checkpointer(2, storage=Deaf(), memory=node_memory)
    loaded = resumed.load_latest()
    assert (loaded.manifest.step, loaded.state["step"]) == (2, 2)
    assert resumed.warning == (
        "Resuming from step 2, out of the nodes' memory: spec.storage: here cannot be reached to "
        "list (no answer); check the endpoint and the network."
    )
    assert (resumed.last_saved, resumed.best, resumed.kept) == (None, None, None)


def test_without_memory_or_storage_nothing_starts(make_checkpointer, node_memory):
    with pytest.raises(StorageUnreachable):
        make_checkpointer(storage=Deaf(), memory=node_memory).load_latest()


@pytest.mark.parametrize("name", ["model.pt", "part-0.pt"])
def test_a_corrupt_copy_is_read_from_storage(make_checkpointer, two_saved, node_memory, name):
    flip(node_memory.storage, f"{STEP_2}/{name}")
    resumed = make_checkpointer(2, memory=node_memory)
    assert resumed.load_latest().manifest.step == 2
    assert resumed.warning == (
        f"Checkpoint step 2 is corrupt: {name} differs from its SHA-256. That copy is in a node's "
        "memory; another one was used."
    )


def test_a_corrupt_manifest_in_memory_is_not_used(make_checkpointer, two_saved, node_memory):
    flip(node_memory.storage, f"{STEP_2}/manifest.json")
    resumed = make_checkpointer(2, memory=node_memory)
    assert resumed.load_latest().manifest.step == 2
    assert resumed.warning.endswith("It lies in the node's memory, and is not used.")


def test_what_only_memory_has_is_gone_on_from(
    make_checkpointer, only_remembered, node_memory, save
):
    assert only_remembered.last_saved.step == 1
    assert only_remembered.warning.endswith(" It is in the nodes' memory.")
    resumed = make_checkpointer(2, keep=Retention(last=1), memory=node_memory)
    assert resumed.load_latest().manifest.step == 2
    assert resumed.last_saved.step == 1
    # The step is saved again, under the new attempt's key, before anything older goes.
    assert save(resumed, 2)
    assert (resumed.last_saved.step, resumed.kept) == (2, 1)
    assert make_checkpointer(3).load_latest().manifest.attempt == 2


def test_where_memory_alone_had_it_and_is_corrupt_the_older_one_is_used(
    make_checkpointer, only_remembered, node_memory
):
    flip(node_memory.storage, f"{STEP_2}/model.pt")
    resumed = make_checkpointer(2, memory=node_memory)
    assert resumed.load_latest().manifest.step == 1
    assert resumed.warning.endswith(
        "model.pt is gone with its node's memory. It was not in storage yet."
    )
    assert list_manifests(node_memory.storage).valid == ()


def test_where_nothing_was_ever_stored_and_memory_is_corrupt_the_run_fails(
    make_checkpointer, save, node_memory, dying, storage
):
    save(make_checkpointer(memory=node_memory, storage=dying(storage, 0)), 2)
    flip(node_memory.storage, f"{STEP_2}/model.pt")
    with pytest.raises(NoValidCheckpoint):
        make_checkpointer(2, memory=node_memory).load_latest()


def test_storage_that_is_newer_wins(make_checkpointer, two_saved, save, node_memory):
    save(make_checkpointer(2), 3)
    assert make_checkpointer(3, memory=node_memory).load_latest().manifest.step == 3
    assert list_manifests(node_memory.storage).valid == ()


def test_what_another_run_left_is_swept(
    make_checkpointer, two_saved, node_memory, tmp_path, storage
):
    other = NodeMemory(tmp_path / "memory", "u-2")
    resumed = make_checkpointer(2, memory=other, storage=storage.child("elsewhere"))
    assert resumed.load_latest() is None
    assert not (tmp_path / "memory/u-1").exists()


@pytest.mark.parametrize("change", [{"uid": "u-9"}, {"job": "other"}, {"namespace": "other"}])
def test_another_runs_manifest_is_refused(make_checkpointer, two_saved, node_memory, change):
    (held,) = list_manifests(node_memory.storage).valid
    strange = held.model_copy(update=change | {"step": 2})
    node_memory.storage.write(held.key, strange.to_json())
    resumed = make_checkpointer(2, storage=Deaf(), memory=node_memory)
    with pytest.raises(StorageUnreachable):
        resumed.load_latest()


def test_a_small_memory_is_left_alone(make_checkpointer, two_saved, save, node_memory, monkeypatch):
    monkeypatch.setattr("trainyard_trainer.node_memory.room_bytes", lambda _: 1000)
    assert save(two_saved, 3)
    assert (two_saved.last_saved.step, two_saved.warning) == (3, None)
    # What it held is older than what storage has, so it is of no use any more.
    assert list_manifests(node_memory.storage).valid == ()
    assert two_saved.timing.memory_bytes == 0


def test_a_memory_that_fills_up_meanwhile_costs_nothing(make_checkpointer, save, node_memory):
    def full(key):
        with type(node_memory.storage)._errors(node_memory.storage, "write", key):
            raise OSError(errno.ENOSPC, "full")

    checkpointer = make_checkpointer(memory=node_memory)
    node_memory.storage.open_writer = full
    assert save(checkpointer, 1)
    assert (checkpointer.last_saved.step, checkpointer.timing.memory_bytes) == (1, 0)


def test_what_is_altered_in_memory_never_becomes_a_checkpoint(
    make_checkpointer, save, node_memory, storage
):
    checkpointer = make_checkpointer(memory=node_memory)
    remember = checkpointer._uploader._remember

    def spoil(manifest):
        remember(manifest)
        flip(node_memory.storage, manifest.weights.key)

    checkpointer._uploader._remember = spoil
    assert not save(checkpointer, 1)
    assert "model.pt was altered in the node's memory" in checkpointer.warning
    assert list_manifests(storage).valid == ()


def test_a_good_end_gives_the_memory_back(two_saved):
    memory = two_saved._memory
    two_saved.close()
    assert not memory._root.exists()


def test_an_end_without_storage_keeps_it(only_remembered, node_memory):
    only_remembered.close()
    assert [m.step for m in list_manifests(node_memory.storage).valid] == [2]


def test_a_crash_after_any_change_leaves_a_checkpoint(
    make_checkpointer, save, dying, storage, tmp_path
):
    """Storage dies after each number of changes; with memory, step 2 is never lost."""
    steps = []
    for budget in range(60):
        run, memory = storage.child(f"run-{budget}"), NodeMemory(tmp_path / f"m-{budget}", "u-1")
        broken = dying(run, 10**9)
        checkpointer = make_checkpointer(keep=Retention(last=1), storage=broken, memory=memory)
        save(checkpointer, 1)
        broken.budget = broken.changes + budget
        done = save(checkpointer, 2)
        for manifest in list_manifests(run).valid:
            verify(run, manifest)
        resumed = make_checkpointer(2, storage=run, memory=memory)
        steps.append(resumed.load_latest().manifest.step)
        if done:
            break
    assert set(steps) == {2}
    assert 5 < len(steps) < 60


def test_room_leaves_a_share_free(tmp_path):
    room = room_bytes(tmp_path)
    memory = NodeMemory(tmp_path, "u", ranks=2)
    assert memory.has_room(1000)
    assert not memory.has_room(int(room * 0.6))


def test_identity_is_that_of_the_run(two_saved, node_memory):
    owner = two_saved._identity
    assert [m.step for m in node_memory.manifests(owner).valid] == [2]
    assert node_memory.manifests(dataclasses.replace(owner, uid="other")).valid == ()
    assert node_memory.manifests(dataclasses.replace(owner, attempt=9)).valid != ()
