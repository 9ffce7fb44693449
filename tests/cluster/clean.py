"""Removing the full cluster, alive, half dead or dead: nothing of it stays but the cache."""

from __future__ import annotations

from pathlib import Path

from cluster import cgroup, mounts, network
from cluster.mounts import remove_tree
from cluster.places import run_directory, state_directory

_CNI_RESULTS = Path("/var/lib/cni/results")
_LOG_LINKS = Path("/var/log/containers")
_SHIM_SOCKETS = Path("/run/containerd/s")


def remove_cluster() -> None:
    """Processes first, then the network, then mounts, and files last."""
    cgroup.kill_all(cgroup.ROOT)
    network.remove()
    remove_tree(run_directory())
    remove_tree(state_directory())
    for stray in _stray_files():
        stray.unlink(missing_ok=True)


def leftovers() -> list[str]:
    """What of a cluster is still on the machine, in words; empty after `down`."""
    found = network.leftovers()
    if not cgroup.is_empty(cgroup.ROOT):
        found.append(f"processes in the control group {cgroup.ROOT}")
    for folder in (run_directory(), state_directory()):
        found += [f"mount {point}" for point in mounts.below(folder)]
        found += [f"folder {folder}"] if folder.exists() else []
    return found + [f"file {path}" for path in _stray_files()]


def _stray_files() -> list[Path]:
    """Those that the daemons keep in places that no setting moves."""
    stray = list(_CNI_RESULTS.glob("trainyard-node-*"))
    for link in _LOG_LINKS.glob("*"):
        if link.is_symlink() and state_directory() in link.readlink().parents:
            stray.append(link)
    bound = Path("/proc/net/unix").read_text()
    stray += [path for path in _SHIM_SOCKETS.glob("*") if str(path) not in bound]
    return stray
