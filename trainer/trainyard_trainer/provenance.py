"""What a result depends on beside its configuration: versions, devices, revisions, data."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

FINGERPRINT_SECONDS = 60.0
"""How long the files of a data set are counted."""
GIT_SECONDS = 20.0


def versions() -> dict[str, str | None]:
    """Of the software; None: it is not there."""
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return {
        "trainyard": _version_of("trainyard"),
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "cudnn": str(cudnn) if cudnn else None,
        "system": platform.platform(),
    }


def device_name(device: torch.device) -> str:
    """The model of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def revision_of(module: str) -> dict[str, Any] | None:
    """The git commit that a module is from, and whether tracked files have changed since.

    None where neither a checkout nor the package's installer knows.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is not None:
        folder = Path(file).resolve().parent
        commit = _git(folder, "rev-parse", "HEAD")
        if commit and _git(folder, "ls-files", "--error-unmatch", file):
            changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
            return {"commit": commit, "dirty": changed != ""}
    return _installed_revision(module.partition(".")[0])


def fingerprint(folder: Path, seconds: float = FINGERPRINT_SECONDS) -> dict[str, Any]:
    """Of a data set's files: equal where their names and sizes are. Contents are not read."""
    until = time.monotonic() + seconds
    digest, files, size = hashlib.sha256(), 0, 0
    complete = True
    for name, size_bytes in _files(folder, ""):
        digest.update(f"{name}\0{size_bytes}\n".encode(errors="surrogateescape"))
        files, size = files + 1, size + size_bytes
        if time.monotonic() > until:
            complete = False
            break
    return {
        "covers": "names and sizes of the files, not what is in them"
        + ("" if complete else f"; counting ended after {seconds:g} s, there are more"),
        "files": files,
        "bytes": size,
        "sha256": digest.hexdigest(),
        "complete": complete,
    }


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Relative names and sizes, each folder in the order of its names."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield prefix + entry.name, entry.stat().st_size


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it has no answer."""
    try:
        ran = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()


def _installed_revision(package: str) -> dict[str, Any] | None:
    """What pip notes of a package that it installed from git."""
    for name in importlib.metadata.packages_distributions().get(package, []):
        text = importlib.metadata.distribution(name).read_text("direct_url.json")
        commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
        if commit:
            return {"commit": commit, "dirty": False}
    return None


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
