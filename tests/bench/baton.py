"""Processes that train in turns, so that all of them meet the same minute.

One that trains waits in `Line.hand_over`, or in `Baton.step` before each of its steps, while it is
another's turn. The one that compares gives turns and is told what each took.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "BATON"


class Times(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float
    """Of all threads of the process."""


class Turn(NamedTuple):
    """What the turn of a Baton took."""

    own: Times
    neighbour: Times | None
    """Of the loop beside it in the same process, if there is one."""

    @classmethod
    def of(cls, told: Any) -> "Turn":
        """As it comes out of the line."""
        own, neighbour = told
        return cls(Times(*own), Times(*neighbour) if neighbour else None)


class Line:
    """The end of the process that trains."""

    def __init__(self) -> None:
        self._pipe = socket.socket(fileno=int(os.environ[VARIABLE]))

    def hand_over(self, told: Any) -> None:
        """Tell of the turn that is over; returns in the next one.

        The process ends where there is none.
        """
        self._pipe.send(json.dumps(told).encode())
        if not self._pipe.recv(1):
            os._exit(0)


class Baton:
    """Cuts a loop into turns of some steps and times them."""

    def __init__(
        self,
        steps: int,
        neighbour: Callable[[int], None] | None = None,
        was_away: Callable[[float], None] = lambda _: None,
    ) -> None:
        """steps: of a turn. neighbour: makes as many steps, before or after, each every other turn.

        was_away: told the seconds in which this process did not train.
        """
        self._line = Line()
        self._steps, self._neighbour, self._was_away = steps, neighbour, was_away
        self._left = self._turns = 0
        self._began = Times(0, 0)
        self._beside: Times | None = None

    def step(self) -> None:
        """Returns in this process's turn; the process ends where no more turns are given."""
        if self._left == 0:
            self._hand_over()
            self._left = self._steps
        self._left -= 1

    def _hand_over(self) -> None:
        now = clocks()
        own = since(self._began, now)
        beside = self._beside if self._turns % 2 else self._run_neighbour()
        self._line.hand_over(Turn(own, beside))
        self._turns += 1
        if self._turns % 2:
            self._beside = self._run_neighbour()
        self._began = clocks()
        self._was_away(since(now, self._began).wall)

    def _run_neighbour(self) -> Times | None:
        if self._neighbour is None:
            return None
        began = clocks()
        self._neighbour(self._steps)
        return since(began, clocks())


class Contestant:
    """The other end: a process that trains in its turns."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        ours, theirs = socket.socketpair()
        self._pipe, self._log = ours, log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    **(environment or {}),
                    VARIABLE: str(theirs.fileno()),
                },
            )
        theirs.close()

    def wait(self) -> Any:
        """For the end of a turn, or, first, until the process is ready for one.

        Returns what it told. Raises RuntimeError where it ended.
        """
        answer = self._pipe.recv(4096)
        if not answer:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{self._log.stem} ended:\n{tail}")
        return json.loads(answer)

    def turn(self) -> Any:
        """Let it train."""
        self._pipe.send(b"!")
        return self.wait()

    def end(self) -> None:
        """It has no more turns."""
        self._pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def clocks() -> Times:
    """Now."""
    return Times(time.perf_counter(), time.process_time())


def since(before: Times, after: Times) -> Times:
    """Differences."""
    return Times(after.wall - before.wall, after.cpu - before.cpu)
