"""No altered byte is ever loaded, and a corrupt checkpoint costs that checkpoint only."""

from dataclasses import replace

import pytest
from chaos.corrupt import (
    KINDS,
    OWN,
    campaign,
    directory,
    load,
    massacre,
    memory_campaign,
    write_checkpoint,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainyard_trainer.checkpoint import load_from, load_latest
from trainyard_trainer.manifest import list_manifests, verify
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.restore import load_checkpoint
from trainyard_trainer.storage import open_storage
from trainyard_trainer.storage_errors import CheckpointCorrupt, NoValidCheckpoint


@pytest.fixture
def history(memory):
    return open_storage(memory.as_uri())


def test_nothing_wrong_is_ever_loaded_from_a_spoilt_history(history):
    tally = campaign(history, flips=220, each=10, seed=1)
    assert tally == {"byte flipped": 220} | dict.fromkeys(KINDS, 10)
    print(f"0 wrong loads of {tally.total()}: {dict(tally)}")


def test_nothing_wrong_is_ever_loaded_from_a_nodes_memory(memory):
    node = NodeMemory(memory / "node", OWN.uid)
    tally = memory_campaign(open_storage((memory / "store").as_uri()), node, flips=150, seed=1)
    assert tally.total() == 150
    print(f"0 wrong loads of 150 from memory: {dict(tally)}")


def test_a_history_without_a_whole_checkpoint_is_refused_each_time(history):
    assert massacre(history, times=25, seed=1) == 25


def test_the_loss_of_all_manifests_is_no_start_from_zero(history):
    write_checkpoint(history, 10)
    assert load(history)[0].manifest.step == 10
    history.write(
        "checkpoints/latest.json", b'{"manifest": "%s/manifest.json"}' % directory(10).encode()
    )
    history.delete([f"{directory(10)}/manifest.json"])
    with pytest.raises(NoValidCheckpoint, match="names 'checkpoints/step-000000000010-a1/manifest"):
        load(history)


def test_another_runs_checkpoint_is_told_by_its_name(history):
    write_checkpoint(history, 10)
    write_checkpoint(history, 20, replace(OWN, job="other", uid="u-2"))
    loaded, told = load(history)
    assert loaded.manifest.step == 10
    assert told == (
        f"Manifest '{directory(20)}/manifest.json' cannot be used: it is of another run, "
        "'research/other/u-2'. Set aside; resuming from step 10."
    )


def test_a_digest_is_no_signature(history):
    """Who may write to the storage may write what they like: docs/checkpoints.md says so."""
    write_checkpoint(history, 10, owner="somebody else")
    loaded, told = load(history)
    assert (loaded.state["owner"], told) == ("somebody else", None)


@given(data=st.data())
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_truncation_or_flipped_byte_is_found(data, make_checkpointer, save, history, memory):
    if not list_manifests(history).valid:
        save(make_checkpointer(storage=history), 1)
    key = data.draw(st.sampled_from(["manifest.json", "model.pt", "part-0.pt"]))
    file = memory / directory(1) / key
    intact = file.read_bytes()
    file.write_bytes(data.draw(broken(intact)))
    try:
        with pytest.raises(NoValidCheckpoint):
            load_latest(history)
        for manifest in list_manifests(history).valid:
            with pytest.raises(CheckpointCorrupt):
                verify(history, manifest)
    finally:
        file.write_bytes(intact)


@st.composite
def broken(draw, intact: bytes) -> bytes:
    at = draw(st.integers(0, len(intact) - 1))
    if draw(st.booleans()):
        return intact[:at]
    return intact[:at] + bytes([intact[at] ^ draw(st.integers(1, 255))]) + intact[at + 1 :]


def flip(storage, key):
    data = bytearray(storage.read(key))
    data[len(data) // 2] ^= 1
    storage.write(key, bytes(data))


@pytest.mark.parametrize("name", ["manifest.json", "model.pt", "part-0.pt"])
def test_a_corrupt_checkpoint_is_set_aside_and_the_one_before_used(
    make_checkpointer, save, storage, name
):
    checkpointer = make_checkpointer()
    save(checkpointer, 1)
    save(checkpointer, 2)
    flip(storage, f"checkpoints/step-000000000002-a1/{name}")
    resumed = make_checkpointer(attempt=2)
    assert resumed.load_latest().manifest.step == 1
    assert resumed.warning.endswith(" Set aside; resuming from step 1.")
    assert [m.step for m in list_manifests(storage).valid] == [1]
    assert storage.exists("quarantine/step-000000000002-a1/manifest.json")
    assert make_checkpointer(attempt=3).load_latest().warning is None


def test_the_warning_names_step_and_part(make_checkpointer, save, storage):
    checkpointer = make_checkpointer()
    save(checkpointer, 1)
    save(checkpointer, 2)
    storage.delete(["checkpoints/step-000000000002-a1/model.pt"])
    assert load_latest(storage).warning == (
        "Checkpoint step 2 is corrupt: model.pt is missing. Set aside; resuming from step 1."
    )


def test_a_step_set_aside_can_be_saved_again(make_checkpointer, save, storage):
    checkpointer = make_checkpointer()
    save(checkpointer, 1)
    save(checkpointer, 2)
    flip(storage, "checkpoints/step-000000000002-a1/model.pt")
    again = make_checkpointer()
    again.load_latest()
    assert save(again, 2)
    assert load_latest(storage).manifest.step == 2


def test_none_valid_fails_each_time_and_never_starts_from_zero(make_checkpointer, save, storage):
    save(make_checkpointer(), 1)
    flip(storage, "checkpoints/step-000000000001-a1/part-0.pt")
    for attempt in (2, 3):
        with pytest.raises(NoValidCheckpoint) as caught:
            make_checkpointer(attempt=attempt).load_latest()
        assert str(caught.value) == (
            f"'{storage.uri}' holds 1 checkpoint(s) and none can be used, the newest because: "
            "Checkpoint step 1 is corrupt: part-0.pt differs from its SHA-256. Restore one, or "
            "delete them all to start from step 0."
        )


def test_another_runs_checkpoint_is_never_set_aside(make_checkpointer, save, storage):
    checkpointer = make_checkpointer()
    save(checkpointer, 1)
    save(checkpointer, 2)
    flip(storage, "checkpoints/step-000000000002-a1/model.pt")
    with pytest.raises(CheckpointCorrupt):
        load_from(storage, "latest")
    assert len(list_manifests(storage).valid) == 2


def test_a_flip_on_the_way_is_read_again(make_checkpointer, save, storage):
    save(make_checkpointer(), 1)
    manifest = list_manifests(storage).valid[0]
    loaded = load_checkpoint(FlipOnce(storage), manifest)
    assert loaded.manifest == manifest


class FlipOnce:
    """Alters the first byte of the first read only."""

    def __init__(self, storage):
        self._storage, self._flips = storage, 1

    def open_reader(self, key, offset=0):
        if self._flips:
            self._flips -= 1
            flip(self._storage, key)
            reader = self._storage.open_reader(key, offset)
            flip(self._storage, key)
            return reader
        return self._storage.open_reader(key, offset)
