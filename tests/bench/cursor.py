"""(f) The first batch of a run that goes on at sample 10 million, beside one that begins at 0.

Compared: from nothing to the first batch of 64, the order of an epoch of 12 million samples
included. The samples are their own indices and cost nothing to read. Beside it, what one does with
torch's DataLoader: skip the batches that were consumed, by reading them or, with Accelerate, by
drawing their indices only. Not compared: loading the model, which is `resume`.
"""

import itertools
import time
from collections.abc import Callable
from importlib.util import find_spec

import torch
from bench.comparison import Absent, Comparison, Row, alternate
from torch.utils.data import DataLoader, Dataset

from trainyard_trainer.config import TrainingConfig
from trainyard_trainer.loader import Split, TrainLoader
from trainyard_trainer.recipe import Data

SAMPLES, CURSOR, BATCH = 12_000_000, 10_000_000, 64
BOUND = 1.05
REPETITIONS = 15
REPETITIONS_OF_OTHERS = 3


class Indices(Dataset[int]):
    """Sample i is i."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> int:
        return index


def compare_cursor(repetitions: int = REPETITIONS) -> list[Row]:
    """Ours against itself is judged; the others are there to compare."""
    torch.set_num_threads(1)

    def at_end() -> float:
        return timed(lambda: ours(CURSOR))

    def at_start() -> float:
        return timed(lambda: ours(0))

    at_end(), at_start()
    late, early = alternate(at_end, at_start, repetitions)
    few = min(repetitions, REPETITIONS_OF_OTHERS)
    what = "first batch at sample 10,000,000"
    rows: list[Row] = [
        Comparison(what=what, ours=late, other=early, other_name="ours at sample 0", bound=BOUND),
        Comparison(
            what=what,
            ours=late,
            other=[timed(read_on) for _ in range(few)],
            other_name="DataLoader, batches read and dropped",
            note=f"medians of {repetitions} of ours and {few} of the others, whose samples are "
            "numbers: images would have to be decoded",
        ),
    ]
    name = "DataLoader, accelerate.skip_first_batches"
    if not find_spec("accelerate"):
        return [*rows, Absent(what=what, other_name=name, note="accelerate is not installed")]
    skipped = [timed(skip_with_accelerate) for _ in range(few)]
    return [*rows, Comparison(what=what, ours=late, other=skipped, other_name=name)]


def timed(first_batch: Callable[[], torch.Tensor]) -> float:
    """Seconds to the first batch."""
    began = time.perf_counter()
    batch = first_batch()
    seconds = time.perf_counter() - began
    if batch.shape != (BATCH,):
        raise RuntimeError(f"a batch of shape {tuple(batch.shape)}")
    return seconds


def ours(cursor: int) -> torch.Tensor:
    """What the engine does when a stage begins or goes on."""
    split = Split(rank=0, world_size=1, batch_size=BATCH, micro_batch_size=BATCH)
    training = TrainingConfig(seed=0)
    loader = TrainLoader(Data(train=Indices()), split, training, torch.device("cpu"))
    batch: torch.Tensor = next(loader.epoch(0, cursor)).batches[0]
    return batch


def read_on() -> torch.Tensor:
    """As one does by hand."""
    batches = iter(build_dataloader())
    return next(itertools.islice(batches, CURSOR // BATCH, None))


def skip_with_accelerate() -> torch.Tensor:
    """Indices are drawn, samples are not read."""
    from accelerate import skip_first_batches

    batch: torch.Tensor = next(iter(skip_first_batches(build_dataloader(), CURSOR // BATCH)))
    return batch


def build_dataloader() -> "DataLoader[int]":
    """Shuffled, by this process."""
    generator = torch.Generator().manual_seed(0)
    return DataLoader(Indices(), BATCH, shuffle=True, generator=generator)
