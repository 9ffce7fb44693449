"""Removing the full cluster, alive, half dead or dead: nothing of it stays but the cache."""

from __future__ import annotations

from pathlib import Path

from cluster import cgroup, mounts, network, sysctl
from cluster.mounts import remove_tree
from cluster.places import run_directory, saved_settings, state_directory

# Places of the daemons that no setting moves.
_CNI_RESULTS = Path("/var/lib/cni/results")
_LOG_LINKS = Path("/var/log/containers")
_SHIM_SOCKETS = Path("/run/containerd/s")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
_SHARED = (_CNI_RESULTS, _LOG_LINKS, _SHIM_SOCKETS, _DEVICE_PLUGINS)


def remove_cluster() -> None:
    """Processes first, then the network, then mounts, and files last."""
    cgroup.kill_all(cgroup.ROOT)
    network.remove()
    sysctl.restore(saved_settings())
    remove_tree(run_directory())
    remove_tree(state_directory())
    for stray in _stray_files():
        stray.unlink(missing_ok=True)
    for folder in _SHARED:
        _remove_if_empty(folder)
        _remove_if_empty(folder.parent)


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
    """Files of ours in those places: sockets that nobody holds, links to deleted logs."""
    stray = list(_CNI_RESULTS.glob("trainyard-node-*"))
    for link in _LOG_LINKS.glob("*"):
        if link.is_symlink() and state_directory() in link.readlink().parents:
            stray.append(link)
    bound = Path("/proc/net/unix").read_text()
    sockets = [*_SHIM_SOCKETS.glob("*"), *_DEVICE_PLUGINS.glob("kubelet.sock")]
    return stray + [path for path in sockets if str(path) not in bound]


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and folder != Path("/var/log") and not any(folder.iterdir()):
        folder.rmdir()
