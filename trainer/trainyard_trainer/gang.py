"""The ranks of a run, talking over a gloo group of their own.

Checkpoints are uploaded by a background thread: it must never touch the group that training uses,
or two ranks could meet in different collectives and hang.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch.distributed as dist

from trainyard_trainer.errors import PeerLost

_T = TypeVar("_T")


@dataclass(frozen=True)
class Gang:
    """This rank and how it reaches the others; `Gang()` is a run of one process."""

    rank: int = 0
    world_size: int = 1
    group: dist.ProcessGroup | None = None
    """A gloo group of all ranks, used for nothing else; None only in a run of one process."""

    def __post_init__(self) -> None:
        if self.world_size > 1 and self.group is None:
            raise ValueError("a run of several ranks needs a gloo group for its checkpoints")

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what there is one of."""
        return self.rank == 0

    def gather(self, value: _T) -> list[_T]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def together(self, action: Callable[[], _T]) -> _T:
        """Run `action` on every rank; where one fails, all fail, the others with PeerLost."""
        result: Any = None
        failure: Exception | None = None
        try:
            result = action()
        except Exception as error:
            failure = error
        problems = self.gather(None if failure is None else str(failure))
        _raise_first(failure, problems)
        return cast(_T, result)

    def from_first(self, action: Callable[[], _T]) -> _T:
        """Run `action` on rank 0 and give its result to all; where it fails, all fail."""
        result: Any = None
        failure: Exception | None = None
        try:
            result = action() if self.is_first else None
        except Exception as error:
            failure = error
        answer = self._broadcast((result, None if failure is None else str(failure)))
        _raise_first(failure, [answer[1]])
        return cast(_T, answer[0])

    def _broadcast(self, value: _T) -> _T:
        if self.group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, dist.get_global_rank(self.group, 0), group=self.group)
        return values[0]


def _raise_first(own: Exception | None, problems: Sequence[str | None]) -> None:
    if own is not None:
        raise own
    for rank, problem in enumerate(problems):
        if problem is not None:
            raise PeerLost(f"Rank {rank} failed: {problem}")
