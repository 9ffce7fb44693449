"""The engine's hot loop and the loop one writes by hand, in one process, 5 steps in turns.

    python raw_loop.py FOLDER_OF_IMAGES PLACE

Prints a JSON list of [[wall, cpu] of ours, [wall, cpu] of the raw loop], seconds of each block of
5 steps. The raw loop runs inside the engine's run, before one of its steps, so that both have the
same minute, memory and thread. Engine time is the time in between: data, losses, backward pass,
step, schedule, metrics every 5 steps, reports, agreement; and the CPU time of its other threads.
"""

import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo.jobs import digits_job

from trainyard_operator.contract import RunRequest
from trainyard_trainer.context import Rank, RunContext, StorageLocation
from trainyard_trainer.optimizers import build_optimizer
from trainyard_trainer.progress import ProgressReport
from trainyard_trainer.recipe import Batch, Data, Loss, Modules, Stage
from trainyard_trainer.recipes.classification.data import ImageBatches
from trainyard_trainer.recipes.classification.recipe import Classification
from trainyard_trainer.registry import recipe
from trainyard_trainer.schedule import Schedule
from trainyard_trainer.worker import RankRun

STEPS = 1000
BLOCK = 5
WARM_UP = 50
BATCH_SIZE = 64


class Repeated:
    """The same images again and again, so that an epoch is as long as the measurement."""

    def __init__(self, images: ImageBatches, size: int) -> None:
        self._images, self._size = images, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._images[index % len(self._images)]

    def batch(self, indices: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        return self._images.batch(indices % len(self._images), epoch)


class RawLoop:
    """zero_grad, forward, cross entropy, backward, schedule, step: nothing else."""

    def __init__(
        self, samples: Repeated, network: nn.Module, optimizer: Optimizer, schedule: Schedule
    ) -> None:
        self._samples, self._network = samples, network
        self._optimizer, self._schedule = optimizer, schedule
        self._rate = optimizer.param_groups[0]["lr"]
        self._order = torch.randperm(len(samples))
        self._mean = torch.tensor((0.485, 0.456, 0.406)).reshape(3, 1, 1)
        self._std = torch.tensor((0.229, 0.224, 0.225)).reshape(3, 1, 1)
        self._step = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            at = self._step * BATCH_SIZE
            images, target = self._samples.batch(self._order[at : at + BATCH_SIZE], 0)
            self._optimizer.zero_grad()
            logits = self._network((images.float() / 255 - self._mean) / self._std)
            F.cross_entropy(logits, target).backward()
            for group in self._optimizer.param_groups:
                group["lr"] = self._rate * self._schedule.factor(self._step)
            self._optimizer.step()
            self._step += 1


@recipe("bench-overhead")
class Interrupted(Classification):
    """Classification that steps aside every 5 steps for the raw loop."""

    blocks: list[tuple[list[float], list[float]]] = []
    progress: ProgressReport
    _resumed = [0.0, 0.0]

    def build_data(self, stage: Stage) -> Data:
        """Enough for one long epoch, with every image decoded."""
        train = super().build_data(stage).train
        assert isinstance(train, ImageBatches)
        train.batch(torch.arange(len(train)), 0)
        self._samples = Repeated(train, (WARM_UP + STEPS + 1) * BATCH_SIZE)
        return Data(train=self._samples)

    def begin_raw_loop(self) -> None:
        """A network, optimizer and schedule of its own, built as the engine builds them."""
        stage, training = self.stages()[0], self.config.training
        network = self.build_modules()["model"]
        optimizer = build_optimizer(
            network.parameters(), training.optimizer, training.learning_rate
        )
        schedules = self.build_schedules(stage, {"main": optimizer}, WARM_UP + STEPS)
        self._raw = RawLoop(self._samples, network, optimizer, schedules["main"])
        self._raw.run(WARM_UP)

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        step = self.position.step
        if step == WARM_UP:
            self.begin_raw_loop()
            self._resumed = clocks()
        elif step > WARM_UP and step % BLOCK == 0:
            ended = clocks()
            self._raw.run(BLOCK)
            resumed = clocks()
            self.blocks.append((since(self._resumed, ended), since(ended, resumed)))
            # Its reports are due twice a second: of its own time.
            self.progress.next_write += since(ended, resumed)[0]
            self._resumed = resumed
        return super().losses(modules, batch)


def clocks() -> list[float]:
    """Wall time, and CPU time of all threads."""
    return [time.perf_counter(), time.process_time()]


def since(before: list[float], after: list[float]) -> list[float]:
    """Differences."""
    return [end - begin for begin, end in zip(before, after, strict=True)]


def build_rank(folder: Path, place: Path) -> Rank:
    """One rank that trains by configs/digits.yaml, one epoch."""
    config = digits_job()["spec"]["config"]
    config["training"] |= {"epochs": 1, "device": "cpu", "evaluate_every_epochs": 2}
    config["data"] |= {"path": str(folder)}
    storage = StorageLocation(
        uri=(place / "store").as_uri(), endpoint=None, region=None, compat="aws"
    )
    run = RunContext(
        job="overhead",
        namespace="default",
        uid="1",
        attempt=1,
        nodes=1,
        node_index=0,
        processes_per_node=1,
        master_addr="127.0.0.1",
        master_port=0,
        progress_port=None,
        scratch=place,
        termination_log=place / "termination",
        storage=storage,
        request=RunRequest(recipe="bench-overhead", config=config, overrides=[], checkpoint={}),
        config_from=None,
    )
    return Rank(run=run, local_rank=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    gc.freeze()  # As in the process that ranks are forked from.
    run = RankRun(build_rank(Path(sys.argv[1]), Path(sys.argv[2])), lambda: False)
    Interrupted.progress = run._progress
    run.train()
    print(json.dumps(Interrupted.blocks))
