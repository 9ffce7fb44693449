"""Recipes for gangs, loaded in the process that ranks are forked from."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from unit.engine.tiny import TEST, VALIDATION, Points, Tiny

from trainyard_trainer import stragglers
from trainyard_trainer.metrics import Counts
from trainyard_trainer.recipe import Batch, Data, Gathered, Loss, Modules, Sink, Stage
from trainyard_trainer.registry import recipe


@recipe("gang-counted")
class Counted(Tiny):
    """Counts its all-reduces of gradients, of which DDP has one for each bucket."""

    def begin_stage(self, stage: Stage, data: Data) -> None:
        self.counted = 0
        build = DistributedDataParallel.__init__

        def note(module: DistributedDataParallel, *arguments: Any, **options: Any) -> None:
            build(module, *arguments, **options)
            module.register_comm_hook(None, self._reduce)

        DistributedDataParallel.__init__ = note  # type: ignore[method-assign]

    def _reduce(self, _: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self.counted += 1
        work = dist.all_reduce(bucket.buffer().div_(self.site.world_size), async_op=True)
        return work.get_future().then(lambda done: done.value()[0])  # type: ignore[no-any-return, union-attr]

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        sink.text("counted.txt", str(self.counted))


@recipe("gang-spoilt")
class SpoiltOnOneRank(Tiny):
    """Sample 17 is no number; only one rank reads it."""

    def build_data(self, stage: Stage) -> Data:
        points = Points(45, 1)
        points.points[17] = float("nan")
        return Data(train=points, validation=Points(11, 2))


@recipe("gang-slow")
class SlowRank(Tiny):
    """Rank 1 takes far longer, also where the machine holds the other one up."""

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        stragglers.WINDOW_SECONDS = 0.5
        time.sleep(0.1 if self.site.rank == 1 else 0.002)
        yield from super().losses(modules, batch)


@recipe("gang-evaluated")
class Evaluated(Tiny):
    """Leaves what each validation sample came to, and the buffers that it was judged with."""

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        found = dict(super().evaluate_batch(modules, batch))
        buffers = [b.double().sum() for m in modules.values() for b in m.buffers()]
        found["buffers"] = torch.stack(buffers).sum().repeat(len(batch[2]))
        found["name"] = [f"sample {index}" for index in batch[2].tolist()]
        found["picture"] = batch[0].repeat(1, 9)  # Of 288 bytes: too large for a slot.
        found["counts"] = Counts(torch.bincount(batch[1], minlength=2))
        return found

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        assert gathered["name"] == [f"sample {index}" for index in gathered["index"].tolist()]
        assert len(set(gathered["buffers"].tolist())) == 1
        points = Points(*{"validation": (VALIDATION, 2), "test": (TEST, 3)}[split])
        assert gathered["counts"].tolist() == np.bincount(points.labels, minlength=2).tolist()
        assert torch.equal(gathered["picture"][:, :8], torch.tensor(points.points).float())
        return super().compute_metrics(split, gathered)

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        losses = {split: one["loss"].tolist() for split, one in gathered.items()}
        sink.text("losses.json", json.dumps(losses))


@recipe("gang-reduced")
class Reduced(Tiny):
    """Leaves which collectives each evaluation takes."""

    def begin_stage(self, stage: Stage, data: Data) -> None:
        self.calls: list[str] = []
        for name in ("reduce", "gather_object", "all_gather_object"):
            setattr(dist, name, partial(self._count, name, getattr(dist, name)))

    def _count(self, name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        if threading.current_thread() is threading.main_thread():  # Not the checkpoint's.
            self.calls.append(name)
        return call(*given, **named)

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        self.calls.clear()
        return super().evaluate_batch(modules, batch)

    def report(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float], sink: Sink
    ) -> None:
        sink.text(f"calls-{self.position.epoch}.json", json.dumps(self.calls))


@recipe("gang-noting")
class Noting(Tiny):
    """Writes down which samples each step read."""

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        with (self.site.scratch / "seen").open("a") as file:
            print(self.position.step, *batch[2].tolist(), file=file)
        yield from super().losses(modules, batch)


@recipe("gang-branches")
class Branches(Tiny):
    """Uses one of two heads by turns; the other has no gradient in that step."""

    def build_modules(self) -> dict[str, nn.Module]:
        return {"model": Forked()}


class Forked(nn.Module):
    """Two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(8, 2) for _ in range(2))
        self.calls = 0

    def forward(self, points: Tensor) -> Tensor:
        self.calls += self.training
        logits: Tensor = self.heads[self.calls % 2](points)
        return logits
