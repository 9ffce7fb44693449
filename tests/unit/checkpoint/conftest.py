"""A small model with an optimizer, its checkpointer, and a storage that dies on request."""

import contextlib
import copy
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainyard_trainer.checkpoint import Checkpointer, Identity, Position, Retention
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.rng import capture_rng
from trainyard_trainer.storage import Storage, open_storage
from trainyard_trainer.storage_errors import StorageUnreachable

torch.set_num_threads(1)  # Threads that spin for such small tensors take other tests' cores.


class DyingStorage:
    """Passes `budget` changes through, then fails for good, as a killed process would.

    Changes are: opening a writer, each write into it, closing it, a plain write, a deletion.
    """

    def __init__(self, storage, budget: int):
        self._storage, self.budget, self.changes = storage, budget, 0

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def change(self):
        if self.changes >= self.budget:
            raise StorageUnreachable("here", "write", "dead")
        self.changes += 1

    def write(self, key, data, **options):
        self.change()
        self._storage.write(key, data, **options)

    def delete(self, keys):
        for key in keys:
            self.change()
            self._storage.delete([key])

    @contextlib.contextmanager
    def open_writer(self, key):
        self.change()
        with self._storage.open_writer(key) as writer:
            yield DyingWriter(writer, self)
            self.change()


class DyingWriter:
    def __init__(self, writer, storage):
        self._writer, self._storage = writer, storage

    def __getattr__(self, name):
        return getattr(self._writer, name)

    def write(self, data):
        self._storage.change()
        return self._writer.write(data)


@pytest.fixture
def storage(tmp_path) -> Storage:
    return open_storage((tmp_path / "store").as_uri())


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: to sync costs nothing."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@pytest.fixture
def node_memory(tmp_path) -> NodeMemory:
    return NodeMemory(tmp_path / "memory", "u-1")


@pytest.fixture
def dying():
    return DyingStorage


@pytest.fixture
def make_checkpointer(storage):
    def make(attempt=1, keep=None, storage=storage, memory=None) -> Checkpointer:
        identity = Identity(namespace="research", job="nodules", uid="u-1", attempt=attempt)
        keep = keep or Retention(last=3)
        checkpointer = Checkpointer(storage, identity, keep=keep, memory=memory)
        checkpointer.retry_pauses = ()
        return checkpointer

    return make


@pytest.fixture(scope="session")
def make_state():
    """The state of a model after `step` steps, a function of the step alone."""

    @functools.cache
    def train(step: int) -> dict:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(step):
            optimizer.zero_grad()
            model(torch.randn(5, 3)).square().sum().backward()
            optimizer.step()
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}

    return lambda step: copy.deepcopy(train(step))


@pytest.fixture
def save(make_state):
    """Saves `step`, waits, and returns whether it is stored."""

    def save(checkpointer: Checkpointer, step: int, **metrics: float) -> bool:
        rank_state = {"rng": capture_rng()}
        position = Position(step=step, epoch=1)
        return checkpointer.save(
            position, make_state(step), metrics, rank_state=rank_state, blocking=True
        )

    return save
