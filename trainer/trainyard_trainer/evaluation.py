"""Evaluation over all ranks: every sample of a split exactly once, without padding."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trainyard_trainer.distributed import World
from trainyard_trainer.loader import Fetch, evaluation_batches
from trainyard_trainer.recipe import Data, Gathered, Modules, Recipe, Samples
from trainyard_trainer.reduction import Column, Joined, Outputs, require_same, unpack
from trainyard_trainer.sampler import evaluation_share


class Evaluator:
    """Evaluates a recipe's splits; the same calls are made on every rank."""

    def __init__(self, recipe: Recipe[Any], world: World, batch_size: int, dtype: Any) -> None:
        """batch_size: of one rank. dtype: of autocast, None for float32."""
        self._recipe, self._world, self._batch_size = recipe, world, batch_size
        self._dtype = dtype
        self._agreed: dict[str, list[Column]] = {}
        """By split."""

    def run(
        self, split: str, data: Data, modules: Modules, between: Callable[[], bool]
    ) -> tuple[Gathered, dict[str, float]] | None:
        """Outputs on rank 0 (empty elsewhere) and metrics on all ranks.

        between: called by every rank the same number of times; None is returned if it says stop.
        """
        samples = samples_of(data, split)
        share = evaluation_share(len(samples), self._world.rank, self._world.world_size)
        most = -(-len(samples) // self._world.world_size)
        rounds = -(-most // self._batch_size)
        fetch = Fetch(samples, data, 0, training=False)
        workers = self._recipe.config.training.num_workers
        # A rank without samples reads one to learn what the others send.
        read = share or range(min(1, len(samples)))
        batches = evaluation_batches(fetch, read, self._batch_size, workers, self._world.device)
        outputs = Outputs()
        with evaluation_mode(modules), torch.no_grad(), self._autocast():
            for _ in range(rounds):
                if between():
                    return None
                batch = next(batches, None)
                if batch is not None:
                    outputs.add(self._recipe.evaluate_batch(modules, batch))
        return self._finish(split, len(samples), outputs.join(len(share)))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._world.device.type, dtype=self._dtype, enabled=self._dtype is not None
        )

    def _finish(self, split: str, size: int, mine: Joined) -> tuple[Gathered, dict[str, float]]:
        gathered = self._reduce(split, size, mine)
        metrics: dict[str, float] = {}
        if self._world.is_first:
            computed = self._recipe.compute_metrics(split, gathered)
            metrics = {name: float(value) for name, value in computed.items()}
        # All take rank 0's: on another kind of processor the last digit could differ.
        return gathered, self._world.from_first(metrics)

    def _reduce(self, split: str, size: int, mine: Joined) -> dict[str, Any]:
        """Outputs of the whole split on rank 0, nothing elsewhere."""
        world = self._world
        self._agree(split, mine.columns)
        gathered: dict[str, Any] = {}
        packed = mine.pack(evaluation_share(size, world.rank, world.world_size), size)
        if packed.numel():
            packed = world.add_up_first(packed)
        if world.is_first:
            gathered = dict(unpack(mine.columns, packed, size))
        if mine.objects:
            gathered |= interleave(world.gather_first(mine.objects), size)
        return gathered

    def _agree(self, split: str, columns: list[Column]) -> None:
        """Ranks compare notes the first time; then each sees to it that nothing changes."""
        if split in self._agreed:
            require_same(columns, self._agreed[split], "an earlier evaluation had")
            return
        for rank, theirs in enumerate(self._world.gather(columns)):
            require_same(columns, theirs, f"rank {rank} had")
        self._agreed[split] = columns


def samples_of(data: Data, split: str) -> Samples:
    """The samples of train, validation or test; an absent split is empty."""
    found: Samples | None = getattr(data, split)
    return [] if found is None else found


@contextmanager
def evaluation_mode(modules: Modules) -> Iterator[None]:
    """Every module in evaluation mode inside; then each submodule as it was."""
    were = [(part, part.training) for module in modules.values() for part in module.modules()]
    for module in modules.values():
        module.eval()
    try:
        yield
    finally:
        for part, training in were:
            part.training = training


def interleave(ranks: Sequence[Mapping[str, Any]], size: int) -> dict[str, Any]:
    """Rank r's k-th output belongs to sample r + k * len(ranks); undo that."""
    names = [name for one in ranks for name in one]
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        parts = [one[name] for one in ranks if name in one]
        if isinstance(parts[0], Tensor):
            whole = parts[0].new_empty((size, *parts[0].shape[1:]))
            for rank, part in enumerate(parts):
                whole[rank :: len(ranks)] = part
            joined[name] = whole
        else:
            rows: list[Any] = [None] * size
            for rank, part in enumerate(parts):
                rows[rank :: len(ranks)] = part
            joined[name] = rows
    return joined
