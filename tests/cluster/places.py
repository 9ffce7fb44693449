"""Where the test cluster keeps things, and which versions it is made of.

Standard library only, here and in the whole folder: it runs before any environment exists.
"""

from __future__ import annotations

import os
from pathlib import Path

KUBERNETES_VERSION = "v1.34.4"
COREDNS_VERSION = "v1.12.4"
VERSITYGW_VERSION = "v1.8.0"
PAUSE_VERSION = "v1"
HELM_VERSION = "v3.19.0"
KWOK_VERSION = "v0.7.0"
KUBEFLOW_VERSION = "v1.9.4"
DEBIAN_SUITE = "bookworm"
PYTHON_VERSION = "3.11"

CHECKOUT = Path(__file__).resolve().parents[2]


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback)


def cache_directory() -> Path:
    """What is built once and survives `down`: binaries, the base image, site-packages."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "trainyard"


def state_directory() -> Path:
    """The one full cluster of this machine; `down` removes all of it."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "trainyard-cluster"


def saved_settings() -> Path:
    """The kernel's settings as they were before the cluster."""
    return state_directory() / "sysctl.json"


def run_directory() -> Path:
    """Sockets and mounts of the full cluster: short, as a socket's path has 108 bytes at most."""
    return Path("/run/trainyard-cluster")
