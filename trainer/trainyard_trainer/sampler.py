"""Which samples come when: pure functions, so that a resumed run goes on at any step in O(1).

An epoch is a permutation that follows from (seed, epoch). The cursor counts the samples that all
ranks together have consumed. A step takes the next `batch_size` of the permutation, and rank r of w
reads every w-th of them from the r-th on: whatever the number of ranks, a step sees the same
samples, and each sample comes once an epoch. The last step of an epoch takes what is left, from
half a batch to one and a half: a handful would be too few for batch normalisation. Ranks may have
different numbers of them, or none; the engine weighs each rank by its number.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


class ShuffledSampler:
    """Each sample once an epoch, in an order of its own each epoch."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self.size

    def order(self, epoch: int) -> Tensor:
        """The permutation of an epoch, kept until another is asked for."""
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            self._order = (epoch, torch.randperm(self.size, generator=generator))
        return self._order[1]

    def steps(self, batch_size: int) -> int:
        """Optimizer steps in an epoch: rounded, at least 1."""
        return max(1, (2 * self.size + batch_size) // (2 * batch_size))

    def take(self, epoch: int, cursor: int, batch_size: int) -> tuple[Tensor, int]:
        """The next global batch, and the cursor after it."""
        left = self.size - cursor
        after = self.size if 2 * left < 3 * batch_size else cursor + batch_size
        return self.order(epoch)[cursor:after], after


def mix(*numbers: int) -> int:
    """One number of 63 bits that looks random for any change in `numbers` (SplitMix64)."""
    state = 0
    for number in numbers:
        state = (state ^ number) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


_MASK = 2**64 - 1


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random source of one sample in one epoch, on any rank and in any worker."""
    return np.random.Generator(np.random.PCG64([seed, epoch, index]))


@contextmanager
def torch_seeded(generator: np.random.Generator) -> Iterator[None]:
    """Have torch's global generator follow `generator` inside, and restore it after.

    For transforms that draw from torch, such as those of torchvision.
    """
    before = torch.get_rng_state()
    torch.manual_seed(int(generator.integers(2**63)))
    try:
        yield
    finally:
        torch.set_rng_state(before)


def evaluation_share(size: int, rank: int, world_size: int) -> range:
    """The samples that one rank evaluates; together each once, without padding."""
    return range(rank, size, world_size)
