"""A queue of keys: each at most once, none worked on twice at a time, timed and backed off."""

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trainyard_operator.metrics import QUEUE_DEPTH, QUEUE_SECONDS

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 30.0
HEAP_SLACK = 64
"""Outdated timers that are put up with before the heap is built anew."""

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass
class WorkQueue(Generic[KeyT]):
    """Keys to work on. `clock` gives seconds, and may stand still in a test."""

    clock: Callable[[], float]
    waiting: dict[KeyT, float] = field(default_factory=dict)
    """Keys in order, each with the time at which it was added."""
    busy: dict[KeyT, float] = field(default_factory=dict)
    """Keys that are worked on, each with the time at which that began."""
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
        self._push(when, key)
        if len(self._heap) > 2 * len(self.timers) + HEAP_SLACK:
            self._rebuild_heap()
        self._changed.set()

    def take(self) -> KeyT | None:
        """The next key, which is busy from now on; None when none is due."""
        self._release_due()
        if not self.waiting:
            return None
        key, added = next(iter(self.waiting.items()))
        del self.waiting[key]
        self.timers.pop(key, None)
        self.busy[key] = self.clock()
        QUEUE_SECONDS.observe(self.clock() - added)
        QUEUE_DEPTH.set(len(self.waiting))
        return key

    def done(self, key: KeyT, *, failed: bool = False) -> None:
        """The key is no longer busy; a failure is tried again, later each time."""
        self.busy.pop(key, None)
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

    def oldest_seconds(self) -> float:
        """How long the key that needs longest has been waiting or worked on."""
        now = self.clock()
        return now - min((*self.waiting.values(), *self.busy.values()), default=now)

    async def run(self, work: Callable[[KeyT], Awaitable[bool]], workers: int) -> None:
        """Work for ever, on so many keys at once; `work` returns whether it succeeded.

        Raises an exception group if `work` raises: it is not meant to.
        """
        slots = asyncio.Semaphore(workers)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                key = await self._next()
                group.create_task(self._work_on(key, work, slots))

    async def _next(self) -> KeyT:
        while (key := self.take()) is None:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.seconds_until_due()):
                    await self._changed.wait()
        return key

    async def _work_on(
        self, key: KeyT, work: Callable[[KeyT], Awaitable[bool]], slots: asyncio.Semaphore
    ) -> None:
        succeeded = False
        try:
            succeeded = await work(key)
        finally:
            self.done(key, failed=not succeeded)
            slots.release()

    def _release_due(self) -> None:
        now = self.clock()
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self.timers.get(key) == when:
                del self.timers[key]
                self.add(key)

    def _push(self, when: float, key: KeyT) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, key))

    def _rebuild_heap(self) -> None:
        """Without the entries whose timer was replaced or has been taken."""
        self._heap.clear()
        for key, when in self.timers.items():
            self._push(when, key)


def retry_delay(failures: int) -> float:
    """Seconds before the next try after that many failures in a row."""
    return min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16), LONGEST_RETRY_SECONDS)
