"""A loop that saves 250 MB of state in one of several ways, a save a turn.

    python pause_loop.py ours|torch.save|dcp-thread|dcp-process PLACE_OR_S3_URI [ENDPOINT]

A turn is 20 steps, a save, 20 more, and the wait for what the save left to do. It tells the seconds
of the pause, and of the steps before and after. The state is that of a network of 21 million
parameters and of Adam: 252 MB. One thread trains; a save may use what it likes.
"""

import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.baton import Line

from trainyard_trainer.checkpoint import Checkpointer, Identity, Position, Retention
from trainyard_trainer.storage import open_storage

STEPS = 20
WIDTH, LAYERS, BATCH = 2048, 5, 4


class Saver(ABC):
    """One way to save; all that is written lies below `place`."""

    def __init__(self, place: str) -> None:
        self.place = place

    def prepare(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Before training, as far as that is possible."""

    @abstractmethod
    def save(self, step: int, state: dict[str, Any]) -> None:
        """What training waits for."""

    @abstractmethod
    def finish(self) -> None:
        """Wait for the rest, and delete what was written."""


class Ours(Saver):
    """The checkpointer of the engine, to a folder or to S3, with its digests and manifest."""

    def __init__(self, place: str, endpoint: str | None = None) -> None:
        uri = place if "://" in place else Path(place).as_uri()
        identity = Identity(namespace="default", job="pause", uid="1", attempt=1)
        storage = open_storage(uri, endpoint=endpoint)
        self._checkpointer = Checkpointer(storage, identity, keep=Retention(1))

    def prepare(self, state: dict[str, Any]) -> None:
        """As the engine does when a stage begins."""
        self._checkpointer.prepare(state)

    def save(self, step: int, state: dict[str, Any]) -> None:
        self._step = step
        self._checkpointer.save(Position(step=step), state)

    def finish(self) -> None:
        self._checkpointer.wait()
        saved = self._checkpointer.last_saved
        if saved is None or saved.step != self._step:
            raise RuntimeError(self._checkpointer.warning)


class TorchSave(Saver):
    """To a temporary name, then a rename; nothing makes sure that it reached the disk."""

    def save(self, step: int, state: dict[str, Any]) -> None:
        path = Path(self.place) / "state.pt"
        path.parent.mkdir(exist_ok=True)
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def finish(self) -> None:
        """Nothing is left to do."""


class Dcp(Saver):
    """torch.distributed.checkpoint.async_save, with a stager that keeps its buffers."""

    def __init__(self, place: str, kind: AsyncCheckpointerType) -> None:
        super().__init__(place)
        self._kind = kind
        Path(place).mkdir(parents=True)
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        group = Path(place) / "group"
        dist.init_process_group("gloo", init_method=group.as_uri(), rank=0, world_size=1)
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=False,
                use_shared_memory=kind is AsyncCheckpointerType.PROCESS,
                use_async_staging=False,
                use_non_blocking_copy=False,
            )
        )

    def save(self, step: int, state: dict[str, Any]) -> None:
        self._path = Path(self.place) / f"step-{step}"
        self._pending = dcp.async_save(
            state,
            checkpoint_id=self._path,
            async_checkpointer_type=self._kind,
            async_stager=self._stager,
        )

    def finish(self) -> None:
        future = getattr(self._pending, "upload_completion", self._pending)
        future.result()
        shutil.rmtree(self._path)


def build(kind: str, place: str, endpoint: str | None) -> Saver:
    """kind: as on the command line."""
    if kind == "ours":
        return Ours(place, endpoint)
    if kind == "torch.save":
        return TorchSave(place)
    kinds = {
        "dcp-thread": AsyncCheckpointerType.THREAD,
        "dcp-process": AsyncCheckpointerType.PROCESS,
    }
    return Dcp(place, kinds[kind])


def main(kind: str, place: str, endpoint: str | None = None) -> None:
    """Saves until there is no more turn."""
    torch.set_num_threads(1)
    network = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    inputs = torch.randn(BATCH, WIDTH)

    def train() -> float:
        began = time.perf_counter()
        for _ in range(STEPS):
            optimizer.zero_grad()
            network(inputs).square().mean().backward()
            optimizer.step()
        return time.perf_counter() - began

    def state() -> dict[str, Any]:
        return {"model": network.state_dict(), "optimizer": optimizer.state_dict()}

    train()
    line, saver, told, step = Line(), build(kind, place, endpoint), [0.0, 0.0, 0.0], 0
    saver.prepare(state())
    while True:
        line.hand_over(told)
        before, step = train(), step + 1
        now = state()
        began = time.perf_counter()
        saver.save(step, now)
        pause = time.perf_counter() - began
        told = [pause, before, train()]
        saver.finish()
        os.sync()  # The next one's disk is not to be busy with ours.


if __name__ == "__main__":
    main(*sys.argv[1:])
