"""Watches the ranks of a node until all have ended, and ends them where need be."""

import contextlib
import math
import os
import selectors
import signal
import time
from collections.abc import Callable

from trainyard_operator.contract import ExitCode
from trainyard_trainer import cgroup
from trainyard_trainer.fork_server import ForkServerReady, RankEnded, RankStarted
from trainyard_trainer.log_upload import NodeLogs
from trainyard_trainer.logs import LogStream
from trainyard_trainer.ranks import ForkServer, Ranks
from trainyard_trainer.signals import STOPS, SignalQueue
from trainyard_trainer.summary import Circumstances, RankEnd, signal_name

STOP_SECONDS = 50.0
"""From a request to stop until ranks are killed; a pod has 60 s, the rest is for the logs."""
PEER_SECONDS = 5.0
"""From a rank's failure until its peers are killed: none of them can go on."""
READ_BYTES = 64 * 1024


class Supervisor:
    """One loop over the fork server's messages, the ranks' output and the launcher's signals."""

    def __init__(
        self, server: ForkServer, ranks: Ranks, signals: SignalQueue, logs: NodeLogs
    ) -> None:
        self._server, self._ranks, self._signals, self._logs = server, ranks, signals, logs
        self._selector = selectors.DefaultSelector()
        self._ends: list[RankEnd] = []
        self._told: signal.Signals | None = None
        self._stopping = False
        self._kill_at: float | None = None
        self._server_code: int | None = None
        self._server_status: int | None = None
        self._outputs: dict[int, tuple[int, LogStream]] = {}
        self._oom_kills = cgroup.oom_kills()

    def watch(self, attempt: int) -> tuple[list[RankEnd], Circumstances]:
        """Start all ranks and wait until none is left."""
        self._listen(self._signals.fileno(), self._take_signals)
        self._listen(self._server.fileno(), self._take_message)
        self._read_into(self._server.output, self._logs.node)
        self._start(attempt)
        while self._ranks.alive and self._server_code is None:
            for key, _ in self._selector.select(self._patience()):
                if key.fd in self._selector.get_map():  # A rank's end closes its output.
                    key.data()
            now = time.monotonic()
            self._kill_late(now)
            self._logs.flush_due(now)
        for rank in list(self._outputs):
            self._close_output(rank)
        self._selector.close()
        return self._ends, self._circumstances()

    def _start(self, attempt: int) -> None:
        try:
            outputs = self._ranks.start(attempt)
        except EOFError:
            self._server_code = self._wait_for_server()
            return
        for rank, descriptor in outputs.items():
            stream = self._logs.open_rank(rank, attempt)
            self._outputs[rank] = descriptor, stream
            self._read_into(descriptor, stream)

    def _patience(self) -> float:
        """Seconds until something is due."""
        due = min(self._logs.flush_at, self._kill_at or self._logs.flush_at)
        return max(0.0, due - time.monotonic())

    def _listen(self, descriptor: int, act: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, act)

    def _read_into(self, descriptor: int, stream: LogStream) -> None:
        def read() -> None:
            if _pour(descriptor, stream) == 0:
                self._selector.unregister(descriptor)

        self._listen(descriptor, read)

    def _close_output(self, rank: int) -> None:
        """Take what a rank wrote before it ended, and let go of its pipe."""
        descriptor, stream = self._outputs.pop(rank)
        while _pour(descriptor, stream):
            pass
        stream.finish()
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)
        os.close(descriptor)

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number in STOPS:
                self._stop(signal.Signals(number))
            elif number == signal.SIGCHLD:
                self._reap()

    def _stop(self, number: signal.Signals) -> None:
        if self._stopping:
            self._logs.say(f"{number.name} again: ranks are killed")
            self._tell(signal.SIGKILL)
            return
        self._stopping = True
        self._logs.say(f"{number.name}: ranks save a checkpoint and stop")
        self._end_within(STOP_SECONDS)

    def _end_within(self, seconds: float) -> None:
        """Ask ranks to stop, unless they were asked, and kill those that take longer."""
        if self._told is signal.SIGKILL:
            return
        self._kill_at = min(self._kill_at or math.inf, time.monotonic() + seconds)
        if self._told is None:
            self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        self._told = number
        self._ranks.send(number)

    def _kill_late(self, now: float) -> None:
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            names = ", ".join(str(rank) for rank in sorted(self._ranks.alive))
            self._logs.say(f"ranks {names} have not stopped in time and are killed")
            self._tell(signal.SIGKILL)

    def _reap(self) -> None:
        """Collect the fork server, and orphans where the launcher is process 1."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._server.pid:
                    self._server_status = ended[1]

    def _take_message(self) -> None:
        try:
            message = self._server.receive()
        except EOFError:
            self._selector.unregister(self._server.fileno())
            self._server_code = self._wait_for_server()
            return
        if isinstance(message, ForkServerReady):
            self._logs.say(f"libraries imported in {message.seconds:.1f} s")
            return
        self._ranks.note(message)
        if isinstance(message, RankStarted):
            self._logs.say(f"rank {message.rank} started, process {message.pid}")
        else:
            self._end(message)

    def _end(self, message: RankEnded) -> None:
        self._close_output(message.rank)
        end = RankEnd(
            rank=message.rank,
            exit_code=message.exit_code,
            time=message.time,
            told=self._told,
            failure=self._ranks.failure(message.rank),
            log_tail=self._logs.tail(message.rank),
        )
        self._ends.append(end)
        self._logs.say(f"rank {end.rank} {_how(end.exit_code)}")
        if end.exit_code == ExitCode.CHECKPOINTED:  # Its peers do the same.
            self._end_within(STOP_SECONDS)
        elif end.exit_code != 0:
            self._end_within(PEER_SECONDS)

    def _wait_for_server(self) -> int:
        if self._server_status is None:
            with contextlib.suppress(ChildProcessError):
                self._server_status = os.waitpid(self._server.pid, 0)[1]
        return os.waitstatus_to_exitcode(self._server_status or 0)

    def _circumstances(self) -> Circumstances:
        _pour(self._server.output, self._logs.node)
        kills = cgroup.oom_kills()
        return Circumstances(
            stop_seconds=STOP_SECONDS if self._stopping else None,
            fork_server_code=self._server_code,
            out_of_memory=(kills or 0) > (self._oom_kills or 0),
            memory_limit_bytes=cgroup.memory_limit_bytes(),
            node_log_tail=self._logs.tail(None),
        )


def _pour(descriptor: int, stream: LogStream) -> int | None:
    """Read once; returns how many bytes: None where there are none now, 0 at the end."""
    try:
        data = os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None
    stream.feed(data)
    return len(data)


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    return f"was killed by {signal_name(-exit_code)}"
