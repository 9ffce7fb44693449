"""The ranks of a running job, as their own events tell of them."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.processes import is_alive, kill_all, launcher_of, wait_until_gone
from chaos.schedule import Kill
from patience import HANG_SECONDS

POLL_SECONDS = 0.001


class NothingHappens(Exception):
    """What was waited for did not come."""


@dataclass
class Event:
    """A line that a rank wrote."""

    pid: int
    rank: int
    what: str
    detail: str


@dataclass
class Gang:
    """Follows the file of events. `runner` is the process of `trainyard run`."""

    file: Path
    runner: int
    ranks: int
    is_over: Callable[[], bool] = lambda: False
    events: list[Event] = field(default_factory=list)
    _offset: int = 0
    _hit: int = 0
    """The newest attempt that was ended."""

    def refresh(self) -> None:
        """Read what is new."""
        try:
            with self.file.open() as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind("\n") + 1]
        self._offset += len(whole.encode())
        for line in whole.splitlines():
            pid, rank, what, detail = line.split(" ", 3)
            self.events.append(Event(int(pid), int(rank), what, detail))

    @property
    def attempt(self) -> int:
        """The newest one that a rank was born in."""
        return max((int(e.detail) for e in self.events if e.what == "born"), default=0)

    @property
    def born(self) -> dict[int, int]:
        """Rank to process of the attempt under way, as far as there are any yet."""
        newest = self.attempt
        if newest <= self._hit:
            return {}
        births = (e for e in self.events if e.what == "born" and int(e.detail) == newest)
        return {event.rank: event.pid for event in births}

    @property
    def members(self) -> dict[int, int]:
        """The same, once all are there."""
        born = self.born
        return born if len(born) == self.ranks else {}

    @property
    def step(self) -> int:
        """The newest that a rank of the attempt under way has made."""
        pids = set(self.born.values())
        made = (int(e.detail) for e in self.events if e.what == "step" and e.pid in pids)
        return max(made, default=0)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Raises NothingHappens once patience is out, or the job is."""
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            self.refresh()
            if holds():
                return
            if self.is_over() or time.monotonic() > deadline:
                raise NothingHappens(f"waiting for {what}: step {self.step} of {self.members}")
            time.sleep(POLL_SECONDS)

    def strike(self, kill: Kill) -> list[str]:
        """Kill; returns who was alive until then, in words."""
        members = self.born
        launchers = {rank: launcher_of(pid, self.runner) for rank, pid in members.items()}
        chosen = sorted(members)[int(kill.choice * len(members)) % len(members)]
        other = sorted(members)[-1 - sorted(members).index(chosen)]
        doomed = {
            "rank": {members[chosen]: f"rank {chosen}"},
            "launcher": {launchers[chosen]: f"launcher of rank {chosen}"},
            "both": {
                members[chosen]: f"rank {chosen}",
                launchers[other]: f"launcher of rank {other}",
            },
            "gang": {pid: f"rank {rank}" for rank, pid in members.items()}
            | {pid: f"launcher of rank {rank}" for rank, pid in launchers.items()},
        }[kill.victims]
        doomed.pop(0, None)
        return [doomed[pid] for pid in kill_all(doomed)]

    def bury(self) -> None:
        """Wait until all ranks of the attempt are gone; the next one's are not counted with it."""
        pids = set(self.born.values())
        if not wait_until_gone(pids, HANG_SECONDS):
            left = [pid for pid in pids if is_alive(pid)]
            raise NothingHappens(f"processes {left} outlive their gang")
        self._hit = self.attempt

    def repeated_steps(self) -> int:
        """Steps of rank 0 that were made more than once, each time counted."""
        made = Counter(int(e.detail) for e in self.events if e.what == "step" and e.rank == 0)
        return sum(count - 1 for count in made.values())
