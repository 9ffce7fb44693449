"""Watches the ranks of a node until all have ended, and ends them where need be."""

import contextlib
import math
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from trainyard_operator.contract import ExitCode
from trainyard_trainer import cgroup
from trainyard_trainer.context import RunContext
from trainyard_trainer.fork_server import ForkServerReady, RankEnded, RankStarted
from trainyard_trainer.log_upload import NodeLogs
from trainyard_trainer.logs import LogStream
from trainyard_trainer.ranks import ForkServer, Ranks, is_stopped
from trainyard_trainer.signals import STOPS, SignalQueue
from trainyard_trainer.standby import OrderDesk
from trainyard_trainer.summary import Circumstances, RankEnd, signal_name

STOP_SECONDS = 50.0
"""From a request to stop until ranks are killed; a pod has 60 s, the rest is for the logs."""
PEER_SECONDS = 5.0
"""From a rank's failure until its peers are killed, where no restart in place can follow."""
BLAME_SECONDS = 0.1
"""What a rank that blames a peer gives that peer to end by itself, and so to be named."""
READ_BYTES = 64 * 1024


@dataclass
class _Watched:
    """What is known of the attempt that runs."""

    ends: list[RankEnd] = field(default_factory=list)
    told: signal.Signals | None = None
    kill_at: float | None = None
    for_restart: bool = False
    stopped: set[int] = field(default_factory=set)
    """Ranks that were stopped, as by SIGSTOP, when they were told to end."""
    outputs: dict[int, tuple[int, LogStream]] = field(default_factory=dict)
    oom_kills: int | None = field(default_factory=cgroup.oom_kills)


class Supervisor:
    """One loop over the fork server's messages, the ranks' output, signals and orders."""

    def __init__(
        self,
        server: ForkServer,
        ranks: Ranks,
        signals: SignalQueue,
        logs: NodeLogs,
        desk: OrderDesk,
    ) -> None:
        self._server, self._ranks, self._signals = server, ranks, signals
        self._logs, self._desk = logs, desk
        self._stopping = False
        self._server_code: int | None = None
        self._server_status: int | None = None
        self._now = _Watched()
        self._selector = selectors.DefaultSelector()
        self._listen(signals.fileno(), self._take_signals)
        self._listen(server.fileno(), self._take_message)
        self._read_into(server.output)

    def watch(self, run: RunContext) -> tuple[list[RankEnd], Circumstances]:
        """Start all ranks and wait until none is left."""
        self._now = _Watched()
        self._start(run)
        while self._ranks.alive and self._server_code is None:
            if self._desk.has_order and not self._now.for_restart:
                self._make_way()
            self._turn(math.inf)
        for rank in list(self._now.outputs):
            self._close_output(rank)
        return self._now.ends, self._circumstances()

    def stand_by(self, seconds: float) -> None:
        """Wait for an order, at most so long; a request to stop ends it at once."""
        until = time.monotonic() + seconds
        while self._desk.is_open and not self._desk.has_order and time.monotonic() < until:
            self._turn(until)

    def _turn(self, until: float) -> None:
        """Wait until something comes or is due, and do it."""
        due = min(until, self._logs.flush_at, self._now.kill_at or math.inf)
        for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
            if key.fd in self._selector.get_map():  # A rank's end closes its output.
                key.data()
        now = time.monotonic()
        self._kill_late(now)
        self._logs.flush_due(now)

    def _start(self, run: RunContext) -> None:
        try:
            outputs = self._ranks.start(run)
        except EOFError:
            self._lose_server()
            return
        for rank, descriptor in outputs.items():
            stream = self._logs.open_rank(rank, run.attempt)
            self._now.outputs[rank] = descriptor, stream
            self._read_into(descriptor, stream)

    def _listen(self, descriptor: int, act: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, act)

    def _read_into(self, descriptor: int, stream: LogStream | None = None) -> None:
        """stream: None for the launcher's own, of which each attempt has another."""

        def read() -> None:
            if _pour(descriptor, stream or self._logs.node) == 0:
                self._selector.unregister(descriptor)

        self._listen(descriptor, read)

    def _close_output(self, rank: int) -> None:
        """Take what a rank wrote before it ended, and let go of its pipe."""
        descriptor, stream = self._now.outputs.pop(rank)
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
        self._desk.close()
        if not self._ranks.alive:
            self._logs.say(f"{number.name} while standing by")
        elif self._stopping:
            self._logs.say(f"{number.name} again: ranks are killed")
            self._tell(signal.SIGKILL)
        else:
            self._logs.say(f"{number.name}: ranks save a checkpoint and stop")
            self._end_within(STOP_SECONDS)
        self._stopping = True

    def _make_way(self) -> None:
        """Kill what still runs: other nodes have failed, and the next attempt waits."""
        self._now.for_restart = True
        self._logs.say(f"attempt {self._desk.attempt} is ordered: ranks are killed")
        self._tell(signal.SIGKILL)

    def _end_within(self, seconds: float) -> None:
        """Ask ranks to stop, unless they were asked, and kill those that take longer."""
        if self._now.told is signal.SIGKILL:
            return
        self._now.kill_at = min(self._now.kill_at or math.inf, time.monotonic() + seconds)
        if self._now.told is None:
            self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        self._now.told = number
        self._now.stopped |= {r for r, pid in self._ranks.pids.items() if is_stopped(pid)}
        self._ranks.send(number)

    def _kill_late(self, now: float) -> None:
        if self._now.kill_at is None or now < self._now.kill_at:
            return
        self._now.kill_at = None
        if alive := sorted(self._ranks.alive):
            names = ", ".join(map(str, alive))
            late = "they have not stopped in time" if self._now.told else "a peer has failed"
            self._logs.say(f"ranks {names} are killed: {late}")
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
            self._lose_server()
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
            told=self._now.told,
            was_stopped=message.rank in self._now.stopped,
            failure=self._ranks.failure(message.rank),
            log_tail=self._logs.tail(message.rank),
        )
        self._now.ends.append(end)
        self._logs.say(f"rank {end.rank} {_how(end.exit_code)}")
        if end.exit_code == ExitCode.CHECKPOINTED:  # Its peers do the same.
            self._end_within(STOP_SECONDS)
        elif end.exit_code == ExitCode.CONFIGURATION or not self._desk.is_open:
            if end.exit_code != 0:
                self._end_within(PEER_SECONDS)
        elif end.exit_code != 0 and self._now.told is None:
            # Nothing that a peer could still do is of use to the next attempt.
            patience = BLAME_SECONDS if end.exit_code == ExitCode.PEER_LOST else 0.0
            kill_at = time.monotonic() + patience
            self._now.kill_at = min(self._now.kill_at or math.inf, kill_at)

    def _lose_server(self) -> None:
        """Nothing can be forked any more; the kernel kills the ranks that are left."""
        self._desk.close()
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._server.fileno())
        if self._server_status is None:
            with contextlib.suppress(ChildProcessError):
                self._server_status = os.waitpid(self._server.pid, 0)[1]
        self._server_code = os.waitstatus_to_exitcode(self._server_status or 0)

    def _circumstances(self) -> Circumstances:
        _pour(self._server.output, self._logs.node)
        return Circumstances(
            stop_seconds=STOP_SECONDS if self._stopping else None,
            for_restart=self._now.for_restart,
            fork_server_code=self._server_code,
            out_of_memory=(cgroup.oom_kills() or 0) > (self._now.oom_kills or 0),
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
