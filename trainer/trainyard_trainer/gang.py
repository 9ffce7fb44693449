"""The ranks of a run, talking over gloo groups of their own.

Checkpoints are uploaded by a background thread: it must never touch a group that the main thread
uses, or two ranks could meet in different collectives and hang.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from trainyard_trainer.errors import PeerLost

_T = TypeVar("_T")
_SPREAD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Gang:
    """This rank and how it reaches the others; `Gang()` is a run of one process."""

    rank: int = 0
    world_size: int = 1
    group: dist.ProcessGroup | None = None
    """A gloo group of all ranks, used for nothing else; None only in a run of one process."""
    side: dist.ProcessGroup | None = None
    """A gloo group of all ranks for what the main threads must agree on."""

    def __post_init__(self) -> None:
        if self.world_size > 1 and (self.group is None or self.side is None):
            raise ValueError("a run of several ranks needs two gloo groups for its checkpoints")

    @classmethod
    def form(cls) -> "Gang":
        """The gang of torch's default process group, if there is one; every rank calls it."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return cls()
        group, side = (dist.new_group(backend="gloo") for _ in range(2))
        return cls(
            dist.get_rank(),
            dist.get_world_size(),
            cast(dist.ProcessGroup, group),
            cast(dist.ProcessGroup, side),
        )

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what there is one of."""
        return self.rank == 0

    def highest(self, values: Sequence[int]) -> list[int]:
        """The largest of all ranks' values, place by place; for main threads only."""
        if self.side is None:
            return list(values)
        votes = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self.side)
        return votes.tolist()

    def gather(self, value: _T) -> list[_T]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def together(self, action: Callable[[], _T]) -> _T:
        """Run `action` on every rank; where one fails, all fail, the others with PeerLost."""
        result, failure = _tried(action)
        _raise_first(failure, self.gather(_text(failure)))
        return cast(_T, result)

    def collect(self, action: Callable[[], _T]) -> list[_T]:
        """Run `action` on every rank and give all results to all; where one fails, all fail."""
        result, failure = _tried(action)
        answers = self.gather((result, _text(failure)))
        _raise_first(failure, [problem for _, problem in answers])
        return [cast(_T, value) for value, _ in answers]

    def from_first(self, action: Callable[[], _T]) -> _T:
        """Run `action` on rank 0 and give its result to all; where it fails, all fail."""
        result, failure = _tried(action) if self.is_first else (None, None)
        value, problem = self._broadcast((result, _text(failure)))
        _raise_first(failure, [problem])
        return cast(_T, value)

    def spread(self, data: bytes | None, source: int, size_bytes: int) -> bytes:
        """The bytes that rank `source` has, on every rank; others pass None."""
        if self.group is None:
            return data or b""
        buffer = bytearray(size_bytes) if data is None else bytearray(data)
        whole = torch.frombuffer(buffer, dtype=torch.uint8)
        root = dist.get_global_rank(self.group, source)
        for chunk in whole.split(_SPREAD_BYTES):
            dist.broadcast(chunk, root, group=self.group)
        return bytes(buffer)

    def _broadcast(self, value: _T) -> _T:
        if self.group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, dist.get_global_rank(self.group, 0), group=self.group)
        return values[0]


def _tried(action: Callable[[], _T]) -> tuple[_T | None, Exception | None]:
    """What it returned, and what it raised."""
    try:
        return action(), None
    except Exception as error:
        return None, error


def _text(failure: Exception | None) -> str | None:
    return None if failure is None else str(failure)


def _raise_first(own: Exception | None, problems: Sequence[str | None]) -> None:
    if own is not None:
        raise own
    for rank, problem in enumerate(problems):
        if problem is not None:
            raise PeerLost(f"Rank {rank} failed: {problem}")
