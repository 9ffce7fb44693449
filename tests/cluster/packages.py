"""What the full cluster needs of the machine: root, and Debian's packages for nodes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster.console import ClusterError, step
from cluster.process import run

CNI_PLUGINS = Path("/usr/lib/cni")

# The package, and the file that shows that it is there.
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": str(CNI_PLUGINS / "ptp"),
    "iptables": "iptables",
    "iproute2": "ip",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "openssl": "openssl",
    "util-linux": "nsenter",
    "mount": "umount",
}


def require_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError(
            "The two nodes need root, for containers and network namespaces: run this as root, or "
            "add --control-plane-only for an API server without nodes."
        )


def install() -> None:
    """Installs the packages that are missing. Raises ClusterError where apt is not to be had."""
    missing = [name for name, file in _PACKAGES.items() if shutil.which(file) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"Install {', '.join(missing)}: there is no apt-get to do it.")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"install {' '.join(missing)}"):
        run(["apt-get", "update", "-qq"], environment=quiet)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        run(command, environment=quiet)
