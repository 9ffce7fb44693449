"""Batches for one rank: loaded here or by workers, cut into micro-batches, moved to the device."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from trainyard_trainer.config import TrainingConfig
from trainyard_trainer.recipe import Batch, Data, Sampler, Samples
from trainyard_trainer.sampler import ShuffledSampler, sample_generator

Key = tuple[int, Tensor]
"""An epoch and the indices of one micro-batch."""


class StepBatch(NamedTuple):
    """What one rank reads for one optimizer step."""

    batches: Sequence[Batch]
    """Micro-batches; empty where a sampler of varying batches drew none."""
    weights: Sequence[float]
    """What each micro-batch's mean counts for in the gradient that DDP averages over ranks."""
    counts: Sequence[int]
    """Samples of each micro-batch; 0 for one that is only there to take part."""
    cursor: int
    """After this step."""
    samples: int
    """Of all ranks together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """How the global batch falls to one rank."""

    rank: int
    world_size: int
    batch_size: int
    """Global."""
    micro_batch_size: int

    def cut(self, indices: Tensor) -> tuple[list[Tensor], list[float], list[int]]:
        """This rank's micro-batches of a global batch, their weights and counts."""
        total = indices.numel()  # len() of a tensor costs several times as much.
        if total == 0:
            return [], [], []
        share = indices if self.world_size == 1 else indices[self.rank :: self.world_size]
        size = share.numel()
        if size == 0:
            # DDP needs every rank in its collectives: a sample that counts for nothing.
            return [indices[:1]], [0.0], [0]
        if size <= self.micro_batch_size:
            return [share], [size * self.world_size / total], [size]
        # Evenly: a last piece of one sample would be too few for batch normalisation.
        pieces = list(share.tensor_split(-(-size // self.micro_batch_size)))
        counts = [piece.numel() for piece in pieces]
        return pieces, [count * self.world_size / total for count in counts], counts


class Fetch:
    """A data set whose samples are whole micro-batches, keyed by epoch and indices."""

    def __init__(self, samples: Samples, data: Data, seed: int, *, training: bool) -> None:
        self.samples, self.seed = samples, seed
        self.whole = getattr(samples, "batch", None)
        self.augment = data.augment if training else None
        self.collate = data.collate or default_collate

    def __getitem__(self, key: Key) -> Batch:
        """The batch on the CPU. An error names the sample."""
        epoch, indices = key
        if self.whole is not None:
            return self.whole(indices, epoch)
        return self.collate([self._sample(epoch, index) for index in indices.tolist()])

    def _sample(self, epoch: int, index: int) -> Any:
        try:
            sample = self.samples[index]
            if self.augment is not None:
                sample = self.augment(sample, sample_generator(self.seed, epoch, index))
        except Exception as error:
            error.add_note(f"while reading sample {index}")
            raise
        return sample


class TrainLoader:
    """The steps of an epoch from any cursor on."""

    def __init__(
        self, data: Data, split: Split, training: TrainingConfig, device: torch.device
    ) -> None:
        self.sampler: Sampler = data.sampler or ShuffledSampler(len(data.train), training.seed)
        self.split = split
        self._device = device
        self._fetch = Fetch(data.train, data, training.seed, training=True)
        self._keys = _Keys()
        self._workers = _workers(
            self._fetch, self._keys, training.num_workers, device, ahead=training.prefetch_batches
        )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.sampler.steps(self.split.batch_size)

    def first(self, epoch: int, cursor: int) -> StepBatch:
        """One full-sized step, loaded by this process and moving nothing along."""
        if cursor >= len(self.sampler):
            cursor = 0
        return next(self._load(self._plan(epoch, cursor), None))

    def epoch(self, epoch: int, cursor: int = 0) -> Iterator[StepBatch]:
        """All steps from `cursor` to the end of the epoch."""
        plan = self._plan(epoch, cursor)
        if self._workers is None:
            return self._load(plan, None)
        self._keys.plan = self._plan(epoch, cursor)
        return self._load(plan, iter(self._workers))

    def repeat(self, epoch: int, cursor: int, skipped: int) -> list[tuple[Batch, list[int]]]:
        """This rank's micro-batches of a step, `skipped` steps after `cursor`, with their samples.

        Loaded by this process; of no use but to find out what went wrong with them.
        """
        planned = self._step(epoch, cursor, skipped)
        return [
            (to_device(self._fetch[key], self._device), key[1].tolist())
            for key, count in zip(planned.keys, planned.counts, strict=True)
            if count
        ]

    def samples(self, epoch: int, cursor: int, skipped: int) -> list[int]:
        """All ranks' samples of a step, `skipped` steps after `cursor`."""
        for _ in range(skipped):
            _, cursor = self.sampler.take(epoch, cursor, self.split.batch_size)
        found: list[int] = self.sampler.take(epoch, cursor, self.split.batch_size)[0].tolist()
        return found

    def own_samples(self, epoch: int, cursor: int, skipped: int) -> list[int]:
        """This rank's among them."""
        planned = self._step(epoch, cursor, skipped)
        pairs = zip(planned.keys, planned.counts, strict=True)
        return [sample for key, count in pairs if count for sample in key[1].tolist()]

    def _step(self, epoch: int, cursor: int, skipped: int) -> "_Planned":
        return next(itertools.islice(self._plan(epoch, cursor), skipped, None))

    def _plan(self, epoch: int, cursor: int) -> Iterator["_Planned"]:
        end = len(self.sampler)
        while cursor < end:
            indices, cursor = self.sampler.take(epoch, cursor, self.split.batch_size)
            pieces, weights, counts = self.split.cut(indices)
            keys = [(epoch, piece) for piece in pieces]
            yield _Planned(keys, weights, counts, cursor, indices.numel())

    def _load(
        self, plan: Iterator["_Planned"], loaded: Iterator[Batch] | None
    ) -> Iterator[StepBatch]:
        moves = self._device.type != "cpu"
        for keys, weights, counts, cursor, samples in plan:
            if loaded is None:
                batches = [self._fetch[key] for key in keys]
            else:
                batches = [next(loaded) for _ in keys]
            if moves:
                batches = [to_device(batch, self._device) for batch in batches]
            yield StepBatch(batches, weights, counts, cursor, samples)


class _Planned(NamedTuple):
    keys: list[Key]
    weights: list[float]
    counts: list[int]
    cursor: int
    samples: int


class _Keys:
    """What the workers are to load next; set before each epoch, so that they can stay."""

    plan: Iterator[_Planned] = iter(())

    def __iter__(self) -> Iterator[Key]:
        for planned in self.plan:
            yield from planned.keys


def evaluation_batches(
    fetch: Fetch, share: range, batch_size: int, num_workers: int, device: torch.device
) -> Iterator[Batch]:
    """A rank's share of a split, in order."""
    keys = [
        (0, torch.tensor(list(share[start : start + batch_size])))
        for start in range(0, len(share), batch_size)
    ]
    workers = _workers(fetch, keys, min(num_workers, len(keys)), device, stay=False)
    for batch in workers if workers is not None else (fetch[key] for key in keys):
        yield to_device(batch, device)


def _workers(
    fetch: Fetch,
    keys: Any,
    num_workers: int,
    device: torch.device,
    *,
    ahead: int = 2,
    stay: bool = True,
) -> "DataLoader[Any] | None":
    """ahead: batches that each worker has ready. stay: whether they live for several epochs."""
    if num_workers == 0:
        return None
    return DataLoader(
        fetch,  # type: ignore[arg-type]
        sampler=keys,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=ahead,
        persistent_workers=stay,
        # Otherwise each epoch draws from the generator that dropout uses, and so would a resume.
        generator=torch.Generator(),
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Tensors on the device, in the same containers."""
    if isinstance(batch, Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        changed = {
            field.name: to_device(getattr(batch, field.name), device)
            for field in dataclasses.fields(batch)
        }
        return dataclasses.replace(batch, **changed)
    return batch
