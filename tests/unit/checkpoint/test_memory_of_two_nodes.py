"""Two nodes, each of whose memory has one rank's parts; each rank calls `main`."""

import shutil
from pathlib import Path

import pytest
from unit.checkpoint.ranks import run_ranks

pytestmark = pytest.mark.slow


def run_gang(action: str, place: Path, world_size: int = 2) -> list[dict]:
    """Every rank is a node of its own."""
    name = "unit.checkpoint.test_memory_of_two_nodes"
    return run_ranks(name, action, str(place), place, world_size)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Step 1 is in storage, step 2 in the memory of two nodes alone."""
    place = tmp_path_factory.mktemp("nodes")
    answers = run_gang("save", place)
    assert [answer["last_saved"] for answer in answers] == [1, 1]
    assert all("It is in the nodes' memory." in answer["warning"] for answer in answers)
    return place


@pytest.fixture
def nodes(saved, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "nodes"))


def test_each_node_holds_what_its_rank_wrote(nodes):
    held = [{p.name for p in nodes.glob(f"node-{rank}/u/checkpoints/*/*")} for rank in (0, 1)]
    assert held == [{"model.pt", "part-0.pt", "manifest.json"}, {"part-1.pt", "manifest.json"}]


def test_ranks_give_one_another_what_they_lack(nodes):
    shutil.rmtree(nodes / "store")
    answers = run_gang("load", nodes)
    assert [(a["step"], a["model"], a["moment"]) for a in answers] == [(2, 2, 20)] * 2
    assert [answer["own"] for answer in answers] == [0, 1]


def test_a_node_that_is_new_gets_everything_from_the_others(nodes):
    answers = run_gang("load", nodes, world_size=3)
    assert [(a["step"], a["moment"]) for a in answers] == [(2, 20)] * 3
    assert [answer["own"] for answer in answers] == [0, 1, None]


def test_spoilt_copy_on_one_node_is_replaced_by_anothers(nodes):
    """Both nodes have the weights, one of them spoilt: neither asks storage."""
    (part,) = nodes.glob("node-0/u/checkpoints/*/model.pt")
    data = part.read_bytes()
    (nodes / "node-1" / part.relative_to(nodes / "node-0")).write_bytes(data)
    part.write_bytes(data[:-1] + b"?")
    shutil.rmtree(nodes / "store")
    answers = run_gang("load", nodes)
    assert [(a["step"], a["model"], a["moment"]) for a in answers] == [(2, 2, 20)] * 2
    assert all("model.pt differs from its SHA-256" in answer["warning"] for answer in answers)


def test_where_a_node_is_gone_all_go_back_to_storage(nodes):
    shutil.rmtree(nodes / "node-1")
    answers = run_gang("load", nodes)
    assert [(a["step"], a["moment"]) for a in answers] == [(1, 10)] * 2
    warning = (
        "Checkpoint step 2 is corrupt: part-1.pt is gone with its node's memory. It was not in "
        "storage yet."
    )
    assert [answer["warning"] for answer in answers] == [warning] * 2


def test_a_manifest_on_one_node_is_enough(nodes):
    """A rank that died between its parts and its manifest has not undone the others' work."""
    (manifest,) = nodes.glob("node-1/u/checkpoints/*/manifest.json")
    manifest.unlink()
    assert [answer["step"] for answer in run_gang("load", nodes)] == [2, 2]


def main(action: str, where: str, rendezvous: str, rank: int, world_size: int) -> dict:
    import torch.distributed as dist

    from trainyard_trainer.checkpoint import Checkpointer, Gang, Identity, NodeMemory
    from trainyard_trainer.storage import open_storage

    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    identity = Identity(namespace="n", job="j", uid="u", attempt=1)
    place = Path(where)
    storage = open_storage((place / "store").as_uri())
    memory = NodeMemory(place / f"node-{rank}", "u")
    checkpointer = Checkpointer(storage, identity, Gang.form(), memory=memory)
    answer = load(checkpointer) if action == "load" else save(checkpointer, storage, rank)
    dist.barrier()
    dist.destroy_process_group()
    return answer


def save(checkpointer, storage, rank: int) -> dict:
    import torch

    from trainyard_trainer.storage_errors import StorageFull

    def full(key: str):
        raise StorageFull("here")

    checkpointer.retry_pauses = ()
    for step in (1, 2):
        if step == 2:
            storage.open_writer = full
        state = {"model": {"w": torch.full((1000,), step)}}
        replicated = {"optimizer": {"m": torch.full((1000,), step * 10)}}
        rank_state = {"rank": torch.tensor(rank)}
        checkpointer.save(step, state, replicated=replicated, rank_state=rank_state, blocking=True)
    return {"last_saved": checkpointer.last_saved.step, "warning": checkpointer.warning}


def load(checkpointer) -> dict:
    loaded = checkpointer.load_latest()
    return {
        "step": loaded.manifest.step,
        "model": int(loaded.state["model"]["w"][-1]),
        "moment": int(loaded.state["optimizer"]["m"][-1]),
        "own": loaded.rank_state and int(loaded.rank_state["rank"]),
        "warning": loaded.warning,
    }
