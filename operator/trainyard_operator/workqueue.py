"""A queue of keys: each at most once, none worked on twice at a time, timed and backed off."""

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trainyard_operator.metrics import QUEUE_DEPTH, QUEUE_SECONDS

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 60.0


KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass
class WorkQueue(Generic[KeyT]):
    """Keys to work on. `clock` gives seconds, and may stand still in a test."""

    clock: Callable[[], float]
    waiting: dict[KeyT, float] = field(default_factory=dict)
    """Keys in order, each with the time at which it was added."""
    busy: set[KeyT] = field(default_factory=set)
    again: set[KeyT] = field(default_factory=set)
    """Keys that were added while they were worked on."""
    timers: dict[KeyT, float] = field(default_factory=dict)
    """The earliest time at which a key has to be added."""
    failures: dict[KeyT, int] = field(default_factory=dict)
    _heap: list[tuple[float, int, KeyT]] = field(default_factory=list)
    _count: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: KeyT) -> None:
        """Work on it as soon as possible."""
        if key in self.busy:
            self.again.add(key)
        elif key not in self.waiting:
            self.waiting[key] = self.clock()
            self._changed.set()
        QUEUE_DEPTH.set(len(self.waiting))

    def add_at(self, key: KeyT, when: float) -> None:
        """Add it at that time, unless it is added earlier anyway."""
        if when >= self.timers.get(key, float("inf")):
            return
        self.timers[key] = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, key))
        self._changed.set()

    def take(self) -> KeyT | None:
        """The next key, which is busy from now on; None when none is due."""
        self._release_due()
        if not self.waiting:
            return None
        key, added = next(iter(self.waiting.items()))
        del self.waiting[key]
        self.timers.pop(key, None)
        self.busy.add(key)
        QUEUE_SECONDS.observe(self.clock() - added)
        QUEUE_DEPTH.set(len(self.waiting))
        return key

    def done(self, key: KeyT, *, failed: bool = False) -> None:
        """The key is no longer busy; a failure is tried again, later each time."""
        self.busy.discard(key)
        if failed:
            count = self.failures[key] = self.failures.get(key, 0) + 1
            self.add_at(key, self.clock() + retry_delay(count))
        else:
            self.failures.pop(key, None)
        if key in self.again:
            self.again.discard(key)
            if not failed:
                self.add(key)

    def forget(self, key: KeyT) -> None:
        """The object is gone: no timer and no failure of it is kept."""
        self.timers.pop(key, None)
        self.failures.pop(key, None)

    def seconds_until_due(self) -> float | None:
        """Time until a key is due; None when nothing waits for a time."""
        if self.waiting:
            return 0.0
        while self._heap and self.timers.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(self._heap[0][0] - self.clock(), 0.0) if self._heap else None

    async def run_worker(self, work: Callable[[KeyT], Awaitable[bool]]) -> None:
        """Work for ever; `work` returns whether it succeeded, and raises nothing."""
        while True:
            key = self.take()
            if key is None:
                await self._wait()
                continue
            succeeded = False
            try:
                succeeded = await work(key)
            finally:
                self.done(key, failed=not succeeded)

    async def _wait(self) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), self.seconds_until_due())

    def _release_due(self) -> None:
        now = self.clock()
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self.timers.get(key) == when:
                del self.timers[key]
                self.add(key)


def retry_delay(failures: int) -> float:
    """Seconds before the next try after that many failures in a row."""
    return float(min(FIRST_RETRY_SECONDS * 2 ** (failures - 1), LONGEST_RETRY_SECONDS))
