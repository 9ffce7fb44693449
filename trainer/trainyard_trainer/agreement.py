"""All ranks pause at the same step, though signals, clocks and losses differ."""

import time
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from trainyard_trainer.distributed import World
from trainyard_trainer.stragglers import Stragglers


class Agreed(NamedTuple):
    """What the ranks do now, at the same step."""

    stop: bool = False
    save: bool = False
    failed: bool = False
    """A rank read a loss that is not finite."""


NOTHING = Agreed()


class Agreement:
    """Every few steps the ranks start a MAX all-reduce and read it one step later.

    So nobody waits for it. Rank 0 proposes how many steps make `period_seconds`. Each rank's own
    time a step travels in a slot of its own, where the others have 0.
    """

    def __init__(self, world: World, stragglers: Stragglers, period_seconds: float = 0.1) -> None:
        self._world, self._stragglers, self._period = world, stragglers, period_seconds
        self._work: Any = None
        self._votes = torch.zeros(0, dtype=torch.int64)
        self._question: tuple[Any, torch.Tensor] | None = None
        self._interval = 1
        self._next = 0
        self._begun = time.monotonic()

    def poll(self, step: int, stop: bool, save: bool, failed: bool) -> Agreed:
        """After each step, by every rank: what to do right now."""
        if self._world.side is None:
            return Agreed(stop, save, failed) if stop or save or failed else NOTHING
        if self._work is not None:
            return self._read(step)
        if step >= self._next:
            self._start(stop, save, failed)
        return NOTHING

    def _start(self, stop: bool, save: bool, failed: bool) -> None:
        now = time.monotonic()
        elapsed, self._begun = now - self._begun, now
        proposal = round(self._interval * self._period / max(elapsed, 1e-6))
        interval = min(64, 4 * self._interval, max(1, proposal)) if self._world.is_first else 0
        times = [0] * self._world.world_size
        times[self._world.rank] = self._stragglers.take()
        self._votes = torch.tensor([stop, save, failed, interval, *times], dtype=torch.int64)
        self._work = self._start_reduction(self._votes)

    def _start_reduction(self, votes: torch.Tensor) -> Any:
        group = self._world.side
        return dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=group, async_op=True)

    def _read(self, step: int) -> Agreed:
        self._work.wait()
        self._work = None
        stop, save, failed, self._interval, *times = self._votes.tolist()
        self._next = step + self._interval - 1
        self._stragglers.note(times)
        return Agreed(bool(stop), bool(save), bool(failed))

    def ask(self, stop: bool) -> bool:
        """Between steps, by every rank, such as in an evaluation: whether to stop.

        The answer is that to the question before, so that nobody waits for it.
        """
        if self._world.side is None:
            return stop
        before = self._question
        votes = torch.tensor([stop], dtype=torch.int64)
        self._question = self._start_reduction(votes), votes
        if before is None:
            return False
        before[0].wait()
        return bool(before[1].item())

    def settle(self) -> None:
        """After the last `ask`, by every rank: nothing is under way any more."""
        if self._question is not None:
            self._question[0].wait()
            self._question = None
