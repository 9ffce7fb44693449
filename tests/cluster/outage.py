"""Daemons of the cluster that are away for a while: the API server, etcd, S3, the controllers.

from cluster.outage import without

with without("etcd", "kube-apiserver"):
    ...     # nobody answers; after the block both start again on the same data
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster import cgroup, fullcluster
from cluster.process import Daemon, is_alive, spawn, wait_until

SECONDS_TO_DIE = 20


@dataclass(frozen=True)
class _Start:
    """How a daemon was started, as the kernel still knows while it runs."""

    name: str
    pid: int
    command: list[str]
    environment: dict[str, str]
    log: Path

    def again(self) -> Daemon:
        """Start it as it was."""
        return spawn(
            self.name,
            self.command,
            self.log,
            outlive=True,
            cgroups=cgroup.create(cgroup.ROOT),
            environment=self.environment,
        )


@contextmanager
def without(*daemons: str) -> Iterator[None]:
    """SIGKILL to the daemons now; they start again, in this order, after the block."""
    starts = [_start_of(name) for name in daemons]
    for start in starts:
        os.kill(start.pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(s.pid) for s in starts), "daemons dead", SECONDS_TO_DIE)
    try:
        yield
    finally:
        fullcluster.replace_daemons([start.again() for start in starts])


@contextmanager
def frozen(daemon: str) -> Iterator[None]:
    """SIGSTOP for as long as the block lasts: connections are taken, and nobody answers."""
    pid = fullcluster.pid(daemon)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _start_of(name: str) -> _Start:
    pid = fullcluster.pid(name)
    folder = Path(f"/proc/{pid}")
    entries = (folder / "environ").read_text().rstrip("\0").split("\0")
    return _Start(
        name=name,
        pid=pid,
        command=(folder / "cmdline").read_text().rstrip("\0").split("\0"),
        environment=dict(entry.split("=", 1) for entry in entries if "=" in entry),
        log=(folder / "fd" / "1").readlink(),
    )
