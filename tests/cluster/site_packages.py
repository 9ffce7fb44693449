"""The project's Python dependencies as a folder that pods mount.

An image with them has 5 GB and takes minutes to make and to load. uv links the files from its own
cache, so a second copy of torch costs no disk.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from cluster.build import cached
from cluster.console import ClusterError, step
from cluster.mounts import remove_tree
from cluster.places import CHECKOUT, PYTHON_VERSION, cache_directory
from cluster.process import Command, run

LOCK = CHECKOUT / "requirements.lock"


def site_packages() -> Path:
    """The folder with all that `requirements.lock` names, made if the cache lacks it."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    return cached(f"site-{PYTHON_VERSION}-{digest}", _install)


def remove_old_site_packages() -> None:
    """Deletes those of other lock files. Not while a cluster runs: it may have them mounted."""
    for folder in cache_directory().glob(f"site-{PYTHON_VERSION}-*"):
        if folder != site_packages():
            remove_tree(folder)


def _install(folder: Path) -> None:
    with step(f"install {LOCK.name} for the pods"):
        command: Command = [
            _uv(),
            "pip",
            "install",
            "--quiet",
            "--target",
            folder,
            "--requirement",
            LOCK,
        ]
        # Pods mount it read-only and could not keep the byte code that they would make.
        run([*command, "--python-version", PYTHON_VERSION, "--compile-bytecode"])
        _name_the_pods_python(folder / "bin")


def _name_the_pods_python(scripts: Path) -> None:
    """Scripts such as torchrun name the Python that installed them, which pods do not have."""
    for script in filter(Path.is_file, scripts.iterdir()):
        first, newline, rest = script.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            # A new file: the old one may be shared with the cache it was installed from.
            mode = script.stat().st_mode
            script.unlink()
            script.write_bytes(b"#!/usr/bin/env python3" + newline + rest)
            script.chmod(mode)


def _uv() -> str:
    local = CHECKOUT / ".venv/bin/uv"
    found = str(local) if local.exists() else shutil.which("uv")
    if found is None:
        environment = cache_directory() / "uv"
        try:
            run([sys.executable, "-m", "venv", environment])
            run([environment / "bin/pip", "install", "--quiet", "uv"])
        except ClusterError as error:
            raise ClusterError(f"There is no `uv`, and it cannot be installed: {error}") from error
        found = str(environment / "bin/uv")
    return found
