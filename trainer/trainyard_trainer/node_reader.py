"""Reading the parts of a checkpoint once on each node, for all of its ranks.

The ranks of a node take turns: each reads and verifies some of the parts, and the others load them
from its memory. As many parts are under way as the smallest node has ranks, so that memory stays
bounded and every rank has work.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from trainyard_trainer.gang import Gang
from trainyard_trainer.landing import Landing, parse
from trainyard_trainer.manifest import Manifest, Part
from trainyard_trainer.storage_errors import CheckpointCorrupt

_T = TypeVar("_T")

Fetch = Callable[[Part], Landing]
"""Brings a part here, verified. Raises CheckpointCorrupt."""


class NodeReader:
    """Every rank makes one, and every rank makes the same calls, at the same time."""

    def __init__(self, gang: Gang, place: str = "") -> None:
        """place: ranks of different places read for themselves even on the same machine."""
        self._gang = gang
        groups = _meet(gang, place)
        self._neighbours = next(group for group in groups if gang.rank in group)
        self._width = min(map(len, groups))
        self.nodes = len(groups)
        """How many read each part; a node whose ranks cannot share counts once for each."""

    def waves(self, parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
        """The parts, as many at a time as `load` takes."""
        for start in range(0, len(parts), self._width):
            yield parts[start : start + self._width]

    def own(self, wave: Sequence[Part]) -> list[Part]:
        """Those that this rank reads."""
        mine = self._neighbours.index(self._gang.rank)
        return list(wave[mine : mine + 1])

    def load(self, manifest: Manifest, wave: Sequence[Part], fetch: Fetch) -> list[Any]:
        """What the parts of a wave hold.

        Where one of them is corrupt on any node, every rank raises the same CheckpointCorrupt.
        """
        with ExitStack() as landed:

            def read() -> dict[str, str]:
                found = {}
                for part in self.own(wave):
                    landing = fetch(part)
                    landed.callback(landing.close)
                    found[part.name] = landing.address
                return found

            answers = self._agree(read)
            near = {k: v for rank in self._neighbours for k, v in answers[rank].items()}
            contents: list[Any] = []
            self._agree(lambda: contents.extend(parse(manifest, p, near[p.name]) for p in wave))
            return contents

    def _agree(self, action: Callable[[], _T]) -> list[_T]:
        """What `action` gave on each rank; where it failed on one, all fail."""

        def attempt() -> _Answer[_T]:
            try:
                return _Answer(action())
            except CheckpointCorrupt as error:
                return _Answer(corrupt=(error.step, error.part, error.problem))

        answers = self._gang.collect(attempt)
        if found := next((answer.corrupt for answer in answers if answer.corrupt), None):
            raise CheckpointCorrupt(*found)
        return [cast(_T, answer.value) for answer in answers]


@dataclass(frozen=True)
class _Answer(Generic[_T]):
    value: _T | None = None
    corrupt: tuple[int, str, str] | None = None


def _meet(gang: Gang, place: str) -> list[list[int]]:
    """Ranks that can open one another's memory, together."""
    if gang.world_size == 1:
        return [[0]]
    sample = Landing("sample")
    try:
        offers = gang.gather((_here(place), sample.address))
        same = [rank for rank, (where, _) in enumerate(offers) if where == offers[gang.rank][0]]
        is_open = all(_can_open(offers[rank][1]) for rank in same)
        # Where one cannot, it and its neighbours read for themselves.
        known = gang.gather((same, is_open))
    finally:
        sample.close()
    shut = {rank for ranks, opens in known if not opens for rank in ranks}
    groups = {tuple(ranks) for ranks, _ in known if not shut & set(ranks)}
    return sorted(map(list, groups)) + [[rank] for rank in sorted(shut)]


def _here(place: str) -> tuple[str, int, int, str]:
    """Equal for processes that see one another: machine, process namespace, user."""
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return machine, Path("/proc/self/ns/pid").stat().st_ino, os.geteuid(), place


def _can_open(address: str) -> bool:
    with suppress(OSError), Path(address).open("rb"):
        return True
    return False
