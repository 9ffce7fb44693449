"""Checkpoints on a real S3 server, and what a run notices when that server goes away."""

import pytest
import torch
from cluster.s3 import S3
from faults.s3_actions import refuse_batch_delete, refuse_checksums
from faults.s3_proxy import S3Proxy

from trainyard_trainer.checkpoint import Checkpointer, Identity, Position, Retention
from trainyard_trainer.manifest import download, list_manifests, verify
from trainyard_trainer.storage import open_storage

STATE = {
    "model": {"weight": torch.arange(10_000_000, dtype=torch.float32)},
    "optimizer": {"momentum": torch.ones(10)},
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that a test may stop and start again, and its access."""
    server = S3(tmp_path / "buckets")
    access = server.start()
    server.port = int(access.endpoint.rpartition(":")[2])
    for name, value in access.environment().items():
        monkeypatch.setenv(name, value)
    access.client().create_bucket(Bucket="lung")
    yield server, access
    server.stop()


@pytest.fixture
def storage(server):
    return open_storage("s3://lung/base", endpoint=server[1].endpoint).child("ns/job/uid")


def make_checkpointer(storage, attempt=1):
    identity = Identity(namespace="ns", job="job", uid="uid", attempt=attempt)
    return Checkpointer(storage, identity, keep=Retention(last=1))


def test_a_checkpoint_of_many_parts_is_saved_loaded_and_fetched(storage, tmp_path):
    checkpointer = make_checkpointer(storage)
    for step in (1, 2):
        assert checkpointer.save(Position(step=step), STATE, {"loss": 0.5}, blocking=True)
    (manifest,) = list_manifests(storage).valid
    assert (manifest.step, checkpointer.warning, checkpointer.kept) == (2, None, 1)
    verify(storage, manifest)
    loaded = make_checkpointer(storage, attempt=2).load_latest()
    assert torch.equal(loaded.state["model"]["weight"], STATE["model"]["weight"])
    (file,) = download(storage, manifest, tmp_path / "out", parts=[manifest.weights])
    weights = torch.load(file, weights_only=True)
    assert torch.equal(weights["weight"], STATE["model"]["weight"])
    assert {entry.key.split("/")[1] for entry in storage.list("checkpoints/")} == {
        "latest.json",
        "step-000000000002-a1",
    }


def test_training_outlives_storage_and_saves_again_once_it_is_back(server, storage):
    daemon, access = server
    checkpointer = make_checkpointer(storage)
    assert checkpointer.save(Position(step=1), STATE, blocking=True)
    daemon.stop()
    checkpointer.retry_pauses = ()
    assert not checkpointer.save(Position(step=2), STATE, blocking=True)
    assert checkpointer.warning == (
        f"Checkpoint step 2 was not saved: spec.storage: {access.endpoint} cannot be reached to "
        "write (connection refused or name not found); check the endpoint and the network."
    )
    daemon.start(access)
    assert checkpointer.save(Position(step=3), STATE, blocking=True)
    assert checkpointer.warning is None
    assert make_checkpointer(storage, attempt=2).load_latest().manifest.step == 3


def test_a_program_of_ones_own_speaks_what_the_server_understands(server):
    with S3Proxy(server[1]) as proxy:
        refuse_checksums(proxy)
        refuse_batch_delete(proxy)
        place = {"uri": "s3://lung/own", "endpoint": proxy.access.endpoint}
        first = Checkpointer.open(**place, keep=Retention(last=1))
        assert first.save(1, STATE, blocking=True)
        assert first.save(2, STATE, blocking=True)
        assert (first.kept, first.warning) == (1, None)
        assert Checkpointer.open(**place).load_latest().manifest.step == 2
