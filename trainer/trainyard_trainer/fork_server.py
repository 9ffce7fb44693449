"""The process that ranks are forked from: it imports torch once and starts no thread.

A rank is therefore there in hundredths of a second, and all of them share the library's pages.
The launcher holds the other end of a socket: it sends a ForkRequest with the descriptor that takes
the rank's output, and is sent ForkServerReady, RankStarted and RankEnded.
"""

import contextlib
import gc
import importlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import NoReturn

from trainyard_trainer import compiler_stub, rank_process


@dataclass(frozen=True)
class ForkServerReady:
    """The imports are done."""

    seconds: float
    """Since the fork server began."""


@dataclass(frozen=True)
class RankStarted:
    """A rank process runs."""

    rank: int
    pid: int


@dataclass(frozen=True)
class RankEnded:
    """A rank process is gone."""

    rank: int
    exit_code: int
    """Negative: minus the number of the signal that killed it."""
    time: float
    """On the machine's monotonic clock."""


Message = ForkServerReady | RankStarted | RankEnded


@dataclass(frozen=True, kw_only=True)
class Preload:
    """What every rank needs, imported once. What cannot be imported is left to the ranks, whose
    output then tells why."""

    libraries: Sequence[str] = ()
    worker: str | None = None
    """The module of the function that ranks run."""
    recipe: str | None = None


def serve(descriptor: int, launcher_pid: int) -> NoReturn:
    """Import what is asked for, then fork ranks until the launcher closes its end or dies."""
    began = time.monotonic()
    try:
        rank_process.die_with(launcher_pid)
        rank_process.adopt_orphans()
        with Connection(descriptor) as connection:
            sys.path[:], preload = connection.recv()
            _import(preload)
            connection.send(ForkServerReady(time.monotonic() - began))
            _ForkServer(connection).run()
    finally:
        os._exit(0)  # The kernel kills the ranks that are left.


def _import(preload: Preload) -> None:
    gc.disable()  # Nothing of it is ever freed; and pages that are frozen stay shared.
    for name in preload.libraries:
        _attempt(importlib.import_module, name)
    if "torch" in preload.libraries:
        compiler_stub.install()
    if preload.worker:
        _attempt(importlib.import_module, preload.worker)
    if preload.recipe:
        _attempt(importlib.import_module("trainyard_trainer.registry").load_recipe, preload.recipe)
    gc.freeze()
    gc.enable()


def _attempt(action: Callable[[str], object], name: str) -> None:
    with contextlib.suppress(Exception, SystemExit):
        action(name)


class _ForkServer:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wake = os.pipe()
        self._ranks: dict[int, int] = {}  # process id to rank

    def run(self) -> None:
        for descriptor in self._wake:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as selector, contextlib.suppress(EOFError, OSError):
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(self._wake[0], selectors.EVENT_READ)
            while True:
                ready = [key.fd for key, _ in selector.select()]
                if self._wake[0] in ready:
                    os.read(self._wake[0], 4096)
                    self._reap()
                if self._connection.fileno() in ready:
                    self._fork(selector)

    def _fork(self, selector: selectors.BaseSelector) -> None:
        request: rank_process.ForkRequest = self._connection.recv()
        output = recv_handle(self._connection)
        server_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._leave(selector)
            finally:
                rank_process.live(request, output, server_pid)
        os.close(output)
        self._ranks[pid] = request.rank.global_rank
        self._connection.send(RankStarted(request.rank.global_rank, pid))

    def _leave(self, selector: selectors.BaseSelector) -> None:
        """In a rank: drop what belongs to the fork server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._connection.close()
        selector.close()
        for descriptor in self._wake:
            os.close(descriptor)

    def _reap(self) -> None:
        """Collect ended ranks, and orphans that they left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (rank := self._ranks.pop(pid, None)) is not None:
                code = os.waitstatus_to_exitcode(status)
                self._connection.send(RankEnded(rank, code, time.monotonic()))
