"""Prometheus and promtool: those on PATH, else the distribution's, unpacked into the cache.

Nothing is installed, so no service starts.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster.build import cached
from cluster.console import ClusterError, step
from cluster.process import run


def prometheus(name: str = "prometheus") -> Path:
    """The server, or `promtool`. Raises ClusterError where there is no apt-get to fetch it."""
    if found := shutil.which(name):
        return Path(found)
    if shutil.which("apt-get") is None:
        raise ClusterError("Install Prometheus: there is no apt-get to fetch it.")
    return cached("prometheus-distribution", _unpack) / "usr" / "bin" / name


def _unpack(folder: Path) -> None:
    with step("fetch Prometheus"):
        try:
            run(["apt-get", "download", "-qq", "prometheus"], directory=folder)
        except ClusterError:
            run(["apt-get", "update", "-qq"])
            run(["apt-get", "download", "-qq", "prometheus"], directory=folder)
        (package,) = folder.glob("*.deb")
        run(["dpkg-deb", "--extract", package, folder])
        package.unlink()
