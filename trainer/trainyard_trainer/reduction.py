"""An evaluation's outputs of all ranks in one sum: exact, and in the order of the samples.

Each rank fills a buffer of 64-bit integers of the same shape: its counts, and behind them a slot
of bytes for every sample of the split, of which it writes its own and leaves the others zero. The
sum over ranks then adds up the counts and puts every sample's bytes in place, whatever they are:
no two ranks write the same byte. So a gang's evaluation equals one rank's to the bit.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.metrics import Counts

SLOT_BYTES = 256
"""A sample's output of at most so much takes part in the sum; every rank has room for all."""
_WORD_BYTES = 8


class OutputsDiffer(TrainyardError):
    """What evaluate_batch returned does not fit together."""


class Column(NamedTuple):
    """What one output is, on every rank."""

    name: str
    kind: Literal["counts", "row", "object"]
    dtype: torch.dtype | None = None
    shape: tuple[int, ...] = ()
    """Of the counts, or of one sample's row; objects are collected as they are."""

    @property
    def row_bytes(self) -> int:
        """Of one sample; 0 for an object."""
        return self.dtype.itemsize * math.prod(self.shape) if self.dtype else 0

    def words(self, size: int) -> int:
        """64-bit integers for a split of `size` samples."""
        if self.kind == "counts":
            return math.prod(self.shape)
        return -(-size * self.row_bytes // _WORD_BYTES)

    def __str__(self) -> str:
        """For a message."""
        if self.kind == "object":
            return f"'{self.name}' (a list, or rows over {SLOT_BYTES} bytes)"
        kind = "counts" if self.kind == "counts" else "a row a sample"
        return f"'{self.name}' ({kind}, {str(self.dtype)[6:]}, shape {list(self.shape)})"


class Outputs:
    """One rank's, batch by batch; small tensors stay on their device until all are there."""

    def __init__(self) -> None:
        self._counts: dict[str, Tensor] = {}
        self._rows: dict[str, list[Any]] = {}

    def add(self, outputs: Mapping[str, Any]) -> None:
        """What evaluate_batch returned."""
        for name, value in outputs.items():
            if isinstance(value, Counts):
                counts = value.value.detach().to(torch.int64)
                before = self._counts.get(name)
                self._counts[name] = counts.clone() if before is None else before + counts
            else:
                self._rows.setdefault(name, []).append(_keep(name, value))

    def join(self, samples: int) -> "Joined":
        """All batches of this rank as one. Raises OutputsDiffer where it is not a row a sample.

        samples: how many this rank has; 0 where it read one only to learn the names and shapes.
        """
        counts = {name: value.cpu() for name, value in self._counts.items()}
        rows = {name: _join(parts) for name, parts in self._rows.items()}
        if samples == 0:
            counts = {name: torch.zeros_like(value) for name, value in counts.items()}
            rows = {name: value[:0] for name, value in rows.items()}
        for name, value in rows.items():
            if len(value) != samples:
                raise OutputsDiffer(
                    f"evaluate_batch: '{name}' has {len(value)} rows for {samples} samples of this "
                    "rank; return one row for each sample, or wrap what is added up in "
                    "metrics.Counts."
                )
        return Joined(counts, rows)


class Joined(NamedTuple):
    """One rank's outputs of a split."""

    counts: dict[str, Tensor]
    rows: dict[str, Any]

    @property
    def columns(self) -> list[Column]:
        """What they are, by name."""
        counts = [
            Column(name, "counts", value.dtype, tuple(value.shape))
            for name, value in self.counts.items()
        ]
        rows = [_column_of(name, value) for name, value in self.rows.items()]
        return sorted(counts + rows, key=lambda column: column.name)

    @property
    def objects(self) -> dict[str, Any]:
        """Lists and large rows, which rank 0 collects as they are."""
        return {c.name: self.rows[c.name] for c in self.columns if c.kind == "object"}

    def pack(self, share: range, size: int) -> Tensor:
        """(words,) int64: this rank's buffer. share: its samples of the split's `size`."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *self._fill(share, size)])

    def _fill(self, share: range, size: int) -> Iterator[Tensor]:
        for column in self.columns:
            if column.kind == "counts":
                yield self.counts[column.name].flatten()
            elif column.kind == "row":
                words = torch.zeros(column.words(size), dtype=torch.int64)
                rows = self.rows[column.name].contiguous().flatten().view(torch.uint8)
                slots = _bytes(words, column, size).view(size, column.row_bytes)
                slots[share.start :: share.step] = rows.view(len(share), column.row_bytes)
                yield words


def unpack(columns: Sequence[Column], packed: Tensor, size: int) -> dict[str, Tensor]:
    """Counts and rows of the whole split, of the ranks' summed buffers."""
    columns = [column for column in columns if column.kind != "object"]
    parts = packed.split([column.words(size) for column in columns])
    found = {}
    for column, words in zip(columns, parts, strict=True):
        if column.kind == "counts":
            found[column.name] = words.view(column.shape)
        elif column.dtype is not None:
            flat = _bytes(words, column, size).view(column.dtype)
            found[column.name] = flat.view(size, *column.shape)
    return found


def require_same(mine: Sequence[Column], theirs: Sequence[Column], whose: str) -> None:
    """Raises OutputsDiffer; whose: the others', such as "rank 3 had"."""
    odd = sorted({column.name for column in set(mine) ^ set(theirs)})
    if odd:
        here, there = (
            next((str(column) for column in columns if column.name == odd[0]), f"no '{odd[0]}'")
            for columns in (mine, theirs)
        )
        raise OutputsDiffer(
            f"evaluate_batch: returned {here} where {whose} {there}; return the same names, types "
            "and shapes for every batch, or a list where they vary."
        )


def _column_of(name: str, rows: Any) -> Column:
    if isinstance(rows, Tensor):
        column = Column(name, "row", rows.dtype, tuple(rows.shape[1:]))
        if column.row_bytes <= SLOT_BYTES:
            return column
    return Column(name, "object")


def _bytes(words: Tensor, column: Column, size: int) -> Tensor:
    return words.view(torch.uint8)[: size * column.row_bytes]


def _keep(name: str, value: Any) -> Any:
    """A copy, where it is: no batch waits for the device. What is large leaves it."""
    if not isinstance(value, Tensor):
        return list(value)
    if value.ndim == 0:
        raise OutputsDiffer(
            f"evaluate_batch: '{name}' is a single number; return one for each sample, (B,), or "
            "wrap whole numbers in metrics.Counts."
        )
    value = value.detach()
    is_small = value.nbytes <= SLOT_BYTES * max(1, len(value))
    return value.clone() if is_small else value.cpu()


def _join(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts).cpu()
    return [row for part in parts for row in part]
