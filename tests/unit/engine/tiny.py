"""Recipes small enough that a whole run takes a tenth of a second, and a way to run them."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from trainyard_operator.contract import RunRequest
from trainyard_trainer.config import RecipeConfig
from trainyard_trainer.context import Rank, RunContext, StorageLocation
from trainyard_trainer.manifest import Manifest, list_manifests
from trainyard_trainer.pictures import Image, Picture
from trainyard_trainer.recipe import (
    Batch,
    Data,
    Gathered,
    Loss,
    Modules,
    Recipe,
    Samples,
    Sink,
    Stage,
)
from trainyard_trainer.registry import recipe
from trainyard_trainer.restore import Loaded, load_checkpoint
from trainyard_trainer.storage import Storage
from trainyard_trainer.worker import RankRun

TRAIN, VALIDATION, TEST = 45, 11, 9


class Config(RecipeConfig):
    """Of the tiny recipes."""

    noise: float = 0.1
    """Of the augmentation."""
    dropout: float = 0.2
    """Of the network."""
    norm: bool = True
    """Whether the network has batch normalisation."""
    fail_at: int | None = None
    """The step before which the recipe raises."""
    kill_at: int | None = None
    """The step before which the last rank is killed."""
    stop_at: int | None = None
    """The step before which every rank is told to stop."""
    stop_rank: int | None = None
    """The only rank that is told to stop; None: all are."""
    nan_at: int | None = None
    """The step whose loss is not a number."""
    show: bool = False
    """Whether it has pictures and notes."""
    keep_last: int | None = None
    """A guide's word for spec.checkpoint.keepLast."""
    pause: float = 0.0
    """Seconds before each step, for who has to watch,"""
    pause_until: str | None = None
    """as long as this file is not there."""

    def checkpoint_policy(self) -> dict[str, Any]:
        return {} if self.keep_last is None else {"keepLast": self.keep_last}


class Points:
    """Points around two centres; sample i is the same in every run."""

    def __init__(self, size: int, offset: int) -> None:
        source = np.random.default_rng(offset)
        self.labels = source.integers(0, 2, size)
        self.points = source.normal(size=(size, 8)) + self.labels[:, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return torch.tensor(self.points[index]).float(), int(self.labels[index]), index


@recipe("tiny")
class Tiny(Recipe[Config]):
    """Two classes, with everything random that a network can have."""

    config_class = Config
    final_splits = ("validation", "test")

    def build_modules(self) -> dict[str, nn.Module]:
        config = self.config
        layers = [nn.Linear(8, 16), nn.BatchNorm1d(16) if config.norm else nn.Identity()]
        return {
            "model": nn.Sequential(*layers, nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(16, 2))
        }

    def build_data(self, stage: Stage) -> Data:
        train: Samples = Points(TRAIN, 1)
        return Data(
            train=train,
            validation=Points(VALIDATION, 2),
            test=Points(TEST, 3),
            augment=self._augment if self.config.noise else None,
        )

    def _augment(self, sample: Any, generator: np.random.Generator) -> Any:
        point, label, index = sample
        noise = torch.from_numpy(generator.normal(size=8)).float()
        return point + self.config.noise * noise, label, index

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        step = self.meet_fate()
        points, labels, _ = batch
        loss = F.cross_entropy(modules["model"](points), labels)
        yield Loss("main", loss * float("nan") if step == self.config.nan_at else loss)

    def meet_fate(self) -> int:
        step, config = self.position.step + 1, self.config
        if config.pause and not (config.pause_until and Path(config.pause_until).exists()):
            time.sleep(config.pause)
        if step == config.fail_at:
            raise ArithmeticError("the recipe's own failure")
        if step == config.kill_at and self.site.rank == self.site.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        is_told = config.stop_rank in (None, self.site.rank)
        if step == config.stop_at and is_told and torch.is_grad_enabled():
            os.kill(os.getpid(), signal.SIGTERM)
        return step

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        points, labels, indices = batch
        logits = modules["model"](points)
        loss = F.cross_entropy(logits, labels, reduction="none")
        return {"loss": loss, "index": indices, "right": logits.argmax(1) == labels}

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        assert gathered["index"].tolist() == list(range(len(gathered["index"])))
        return {
            "loss": gathered["loss"].double().mean().item(),
            "accuracy": gathered["right"].double().mean().item(),
        }

    def pictures(
        self, split: str, gathered: Gathered, metrics: Mapping[str, float]
    ) -> Mapping[str, Picture]:
        return {"points": Image(pixels=gathered["right"][None].float())} if self.config.show else {}

    def notes(self) -> Mapping[str, str]:
        return {"left out": "3 points"} if self.config.show else {}

    def finish(
        self, gathered: Mapping[str, Gathered], metrics: Mapping[str, float], sink: Sink
    ) -> None:
        sink.text("reports/sizes.txt", str({k: len(v["index"]) for k, v in gathered.items()}))


@recipe("tiny-gan")
class TinyGan(Tiny):
    """Two optimizers; each notes what it saw of the other."""

    seen: list[tuple[float, float]]

    def build_modules(self) -> dict[str, nn.Module]:
        self.seen = []
        return {"generator": nn.Linear(8, 8), "discriminator": nn.Linear(8, 1)}

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        return {
            "discriminator": SGD(modules["discriminator"].parameters(), lr=0.1),
            "generator": SGD(modules["generator"].parameters(), lr=0.1),
        }

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        self.meet_fate()
        points, _, _ = batch
        generator, discriminator = modules["generator"], modules["discriminator"]
        fake = generator(points)
        before = discriminator.weight.detach().clone()  # type: ignore[union-attr, operator]
        real = F.relu(1 - discriminator(points)).mean()
        yield Loss("discriminator", real + F.relu(1 + discriminator(fake.detach())).mean())
        stepped = (discriminator.weight - before).abs().sum().item()  # type: ignore[operator]
        loss = -discriminator(fake).mean()
        yield Loss("generator", loss, {"realism": -loss})
        assert discriminator.weight.grad is None or stepped > 0
        self.seen.append((stepped, loss.item()))

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        points, _, indices = batch
        score = modules["discriminator"](modules["generator"](points))[:, 0]
        return {"loss": -score, "index": indices, "right": score > 0}


def tiny_rank(
    directory: Path,
    *,
    attempt: int = 1,
    job: str = "tiny",
    gang: tuple[int, int, int] = (1, 0, 0),
    storage: StorageLocation | None = None,
    **request: Any,
) -> Rank:
    """A rank of a run below `directory`. gang: nodes, index among them, port to meet at.

    storage: a folder below `directory` by default.
    """
    nodes, node_index, port = gang
    scratch = directory / f"scratch-{attempt}-{node_index}"
    scratch.mkdir(parents=True, exist_ok=True)
    folder = StorageLocation(
        uri=(directory / "store").as_uri(), endpoint=None, region=None, compat="aws"
    )
    run = RunContext(
        job=job,
        namespace="default",
        uid="u1",
        attempt=attempt,
        nodes=nodes,
        node_index=node_index,
        processes_per_node=1,
        master_addr="127.0.0.1",
        master_port=port,
        progress_port=None,
        scratch=scratch,
        termination_log=scratch / "termination",
        storage=storage or folder,
        request=tiny_request(**request),
        config_from=None,
    )
    return Rank(run=run, local_rank=0)


def tiny_request(
    recipe: str = "tiny", config: Mapping[str, Any] | None = None, **rest: Any
) -> RunRequest:
    """Small batches and few epochs unless told otherwise."""
    training = {"batch_size": 8, "epochs": 3, "log_every_steps": 2, "device": "cpu"}
    changed = dict(config or {})
    changed["training"] = training | dict(changed.get("training", {}))
    return RunRequest(recipe=recipe, config=changed, **rest)


def train(rank: Rank, should_stop: Callable[[Recipe[Any]], bool] = lambda _: False) -> RankRun:
    """Run a rank in this process; should_stop is asked after each step."""
    holder: list[RankRun] = []
    run = RankRun(rank, lambda: should_stop(holder[0].recipe))
    holder.append(run)
    run.train()
    return run


def storage_of(rank: Rank) -> Storage:
    """Where a rank's run lies."""
    return rank.run.storage.open().child(rank.run.run_prefix)


def result_of(rank: Rank) -> dict[str, Any]:
    """Its result.json."""
    found: dict[str, Any] = json.loads(storage_of(rank).read("result.json"))
    return found


def manifests_of(rank: Rank) -> list[Manifest]:
    """All its checkpoints, newest first."""
    return list(list_manifests(storage_of(rank)).valid)


def newest(rank: Rank) -> Loaded:
    """Its last checkpoint."""
    return load_checkpoint(storage_of(rank), manifests_of(rank)[0])


def assert_equal_states(one: Any, other: Any, path: str = "state") -> None:
    """Bit for bit, times left out."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            if key not in {"seconds", "unstored_rows"}:  # Rows bear times.
                assert_equal_states(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal_states(*pair, f"{path}[{index}]")
    else:
        assert one == other, path
