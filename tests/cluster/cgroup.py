"""The control groups that hold every process of the cluster, and so find each one to kill.

`trainyard-cluster/system` holds the daemons of the control plane; `trainyard-cluster/NODE` those
of a node (its containerd, kubelet, kube-proxy and shims in `system`), and its pods.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from cluster.console import ClusterError

ROOT = "trainyard-cluster"
_MOUNT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpuset", "cpu", "memory", "pids", "io")


def node_group(node: str) -> str:
    return f"{ROOT}/{node}"


def create(group: str) -> list[Path]:
    """Makes `group/system` in every hierarchy; its folders there."""
    return [_create_in(hierarchy, group) for hierarchy in _hierarchies()]


def kill_all(group: str) -> None:
    """SIGKILL to every process in the group and below, then the group is removed.

    Raises ClusterError if something survives for 20 seconds.
    """
    deadline = time.monotonic() + 20
    while processes := _processes(group):
        if time.monotonic() > deadline:
            raise ClusterError(f"Processes {sorted(processes)} survive SIGKILL.")
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    _remove(group)


def is_empty(group: str) -> bool:
    return not _processes(group)


def _hierarchies() -> list[Path]:
    """The mounted hierarchies: one folder for version 2, one a controller for version 1."""
    if (_MOUNT / "cgroup.controllers").exists():
        return [_MOUNT]
    # cpu and cpu,cpuacct are one hierarchy under two names where they are links.
    return [entry for entry in _MOUNT.iterdir() if entry.is_dir() and not entry.is_symlink()]


def _create_in(hierarchy: Path, group: str) -> Path:
    folder = hierarchy
    for part in f"{group}/system".split("/"):
        if (folder / "cgroup.subtree_control").exists() and hierarchy == _MOUNT:
            available = (folder / "cgroup.controllers").read_text().split()
            wanted = " ".join(f"+{name}" for name in _CONTROLLERS if name in available)
            (folder / "cgroup.subtree_control").write_text(wanted)
        child = folder / part
        child.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 starts a cpuset empty, and then refuses processes.
            if hierarchy != _MOUNT and (child / setting).exists():
                (child / setting).write_text((folder / setting).read_text())
        folder = child
    return folder


def _folders(group: str) -> list[Path]:
    """The group's folders in all hierarchies, children before their parents."""
    found: list[Path] = []
    for hierarchy in _hierarchies():
        for path, _, _ in os.walk(hierarchy / group, topdown=False):
            found.append(Path(path))
    return found


def _processes(group: str) -> set[int]:
    found: set[int] = set()
    for folder in _folders(group):
        try:
            found.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return found - {0, os.getpid()}


def _remove(group: str) -> None:
    deadline = time.monotonic() + 5
    while folders := _folders(group):
        for folder in folders:
            try:
                folder.rmdir()
            except OSError:
                # The kernel lets go of the last process a moment after its death.
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.01)
