"""Real processes over a real gloo group; each rank calls `main`."""

import json
from pathlib import Path

import pytest
from unit.checkpoint.ranks import run_ranks

pytestmark = pytest.mark.slow

CHECKPOINTS = "checkpoints/step-{:012d}-a1"


def run_gang(action: str, store: Path, tmp_path: Path, world_size: int = 2) -> list[dict]:
    """Runs `action` on every rank; returns what each printed."""
    return run_ranks("unit.checkpoint.test_two_ranks", action, store.as_uri(), tmp_path, world_size)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two ranks saved steps 1 and 2."""
    folder = tmp_path_factory.mktemp("gang")
    return folder / "store", run_gang("save", folder / "store", folder)


@pytest.fixture
def store(saved, tmp_path):
    """A copy that a test may spoil."""
    import shutil

    return Path(shutil.copytree(saved[0], tmp_path / "store"))


def test_both_ranks_know_what_was_saved(saved):
    first, second = saved[1]
    assert first == second
    assert (first["step"], first["kept"], first["warning"]) == (2, 2, None)


def test_a_manifest_names_the_parts_of_all_ranks(saved):
    manifest = json.loads((saved[0] / CHECKPOINTS.format(2) / "manifest.json").read_bytes())
    assert manifest["world_size"] == 2
    assert [(part["key"].rpartition("/")[2], part["rank"]) for part in manifest["parts"]] == [
        ("model.pt", 0),
        ("part-0.pt", 0),
        ("part-1.pt", 1),
    ]


def test_each_rank_gets_the_shared_state_and_its_own(store, tmp_path):
    loaded = run_gang("load", store, tmp_path)
    assert [answer["shared"] for answer in loaded] == [20, 20]
    assert [answer["own"] for answer in loaded] == [0, 1]


def test_a_grown_gang_loads_what_there_is(store, tmp_path):
    loaded = run_gang("load", store, tmp_path, world_size=3)
    assert [answer["own"] for answer in loaded] == [0, 1, None]
    assert all(answer["elastic"] for answer in loaded)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_node_reads_each_part_once(store, tmp_path, world_size):
    """The best weights too, which are read alone at the end of a run."""
    loaded = run_gang("load", store, tmp_path, world_size=world_size)
    read = [name for answer in loaded for name in answer["read"]]
    assert sorted(read) == ["model.pt", "model.pt", "part-0.pt", "part-1.pt"]
    if world_size == 2:
        assert [answer["read"] for answer in loaded] == [
            ["model.pt", "part-1.pt", "model.pt"],
            ["part-0.pt"],
        ]


def test_ranks_that_cannot_open_one_anothers_memory_read_for_themselves(store, tmp_path):
    loaded = run_gang("load alone", store, tmp_path)
    assert [(answer["step"], answer["own"]) for answer in loaded] == [(2, 0), (2, 1)]
    parts = ["model.pt", "part-0.pt", "part-1.pt", "model.pt"]
    assert [answer["read"] for answer in loaded] == [parts] * 2


def test_absent_storage_fails_all_ranks_with_the_sentence_of_the_first(store, tmp_path):
    answers = run_gang("load absent", store, tmp_path)
    assert answers == [
        {"error": "StorageUnreachable", "says": answers[0]["says"]},
        {"error": "PeerLost", "says": f"Rank 0 failed: {answers[0]['says']}"},
    ]


def test_all_ranks_fall_back_to_the_same_checkpoint(store, tmp_path):
    part = store / CHECKPOINTS.format(2) / "part-1.pt"
    part.write_bytes(part.read_bytes()[:-1])
    loaded = run_gang("load", store, tmp_path)
    assert [answer["step"] for answer in loaded] == [1, 1]
    assert "Set aside; resuming from step 1." in loaded[0]["warning"]
    assert loaded[0]["warning"] == loaded[1]["warning"]


def test_each_rank_writes_its_share(store):
    sizes = {path.name: path.stat().st_size for path in store.glob("*/*-a1/part-*.pt")}
    assert sizes["part-0.pt"] < 400_000 < sizes["part-1.pt"]


def test_all_ranks_skip_what_one_is_not_ready_for(tmp_path):
    first, second = run_gang("skip", tmp_path / "store", tmp_path)
    assert first == second
    assert (first["step"], first["skipped"], first["kept"]) == (3, 1, 2)


def test_ranks_with_different_states_let_the_first_write_all(tmp_path):
    run_gang("differ", tmp_path / "store", tmp_path)
    loaded = run_gang("load", tmp_path / "store", tmp_path)
    assert [answer["shared"] for answer in loaded] == [10, 10]


def test_one_ranks_failed_upload_fails_the_save_on_all(tmp_path):
    first, second = run_gang("fail", tmp_path / "store", tmp_path)
    assert first["warning"] == (
        "Checkpoint step 1 was not saved: Rank 1 failed: spec.storage: no space is left at "
        "'here'; free some or enlarge it."
    )
    assert second["warning"].startswith("Checkpoint step 1 was not saved: spec.storage: no space")
    assert (first["step"], second["step"]) == (2, 2)


def main(action: str, uri: str, rendezvous: str, rank: int, world_size: int) -> dict:
    import torch.distributed as dist

    from trainyard_trainer.checkpoint import Checkpointer, Gang, Identity
    from trainyard_trainer.storage import open_storage

    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    gang = Gang.form()
    identity = Identity(namespace="n", job="j", uid="u", attempt=1)
    storage = open_storage(uri)
    checkpointer = Checkpointer(storage, identity, gang)
    if action.startswith("load"):
        answer = load(checkpointer, storage, gang, action)
    elif action == "save":
        save(checkpointer, rank, 1)
        checkpointer.wait()
        save(checkpointer, rank, 2)
        answer = report(checkpointer)
    elif action == "skip":
        answer = skip(checkpointer, rank, storage)
    elif action == "differ":
        save(checkpointer, rank, 1, size=100_000 + rank)
        answer = report(checkpointer)
    else:
        answer = fail_once(checkpointer, rank, storage)
    dist.barrier()
    dist.destroy_process_group()
    return answer


def save(checkpointer, rank: int, step: int, size: int = 100_000) -> None:
    import torch
    import torch.distributed as dist

    from trainyard_trainer.checkpoint import Position

    state = {"model": {"w": torch.full((100_000,), step)}, "optimizer": {"n": 1}}
    replicated = {"optimizer": {"m": torch.full((size,), step * 10)}}
    rank_state = {"rank": torch.tensor(rank)}
    checkpointer.save(Position(step=step), state, replicated=replicated, rank_state=rank_state)
    # Training goes on meanwhile, over its own group.
    dist.all_reduce(torch.ones(1000))


def report(checkpointer) -> dict:
    checkpointer.wait()
    last = checkpointer.last_saved
    return {
        "step": last and last.step,
        "sha256": last and last.sha256,
        "kept": checkpointer.kept,
        "skipped": checkpointer.timing.skipped,
        "warning": checkpointer.warning,
    }


def load(checkpointer, storage, gang, action: str) -> dict:
    from trainyard_trainer import node_reader
    from trainyard_trainer.errors import TrainyardError
    from trainyard_trainer.restore import load_part

    read = []
    note_reads(storage, read, fails="absent" in action and gang.is_first)
    if "alone" in action:
        node_reader._can_open = lambda address: False
    try:
        loaded = checkpointer.load_latest()
    except TrainyardError as error:
        return {"error": type(error).__name__, "says": str(error)}
    load_part(storage, loaded.manifest, loaded.manifest.weights, gang)
    return {
        "step": loaded.manifest.step,
        "shared": loaded.state["optimizer"]["n"] * int(loaded.state["optimizer"]["m"][-1]),
        "own": loaded.rank_state and int(loaded.rank_state["rank"]),
        "elastic": loaded.is_elastic(gang.world_size),
        "warning": loaded.warning,
        "read": read,
    }


def note_reads(storage, read: list[str], *, fails: bool) -> None:
    from trainyard_trainer.storage_errors import StorageUnreachable

    def opened(key: str, offset: int = 0):
        if fails:
            raise StorageUnreachable("here", "read", "no answer")
        read.append(key.rpartition("/")[2])
        return type(storage).open_reader(storage, key, offset)

    storage.open_reader = opened


def skip(checkpointer, rank: int, storage) -> dict:
    """Rank 1's storage is slow: the first upload lasts until the second save was asked for."""
    import threading

    is_asked = threading.Event()
    if rank == 1:
        write = storage.open_writer
        storage.open_writer = lambda key: (is_asked.wait(), write(key))[1]
    for step in (1, 2, 3):
        save(checkpointer, rank, step)
        if step == 2:
            is_asked.set()
            checkpointer.wait()
    return report(checkpointer)


def fail_once(checkpointer, rank: int, storage) -> dict:
    from trainyard_trainer.storage_errors import StorageFull

    def full(key: str):
        raise StorageFull("here")

    if rank == 1:
        storage.open_writer = full
    save(checkpointer, rank, 1)
    answer = report(checkpointer)
    vars(storage).pop("open_writer", None)
    save(checkpointer, rank, 2)
    return answer | {"step": report(checkpointer)["step"]}
