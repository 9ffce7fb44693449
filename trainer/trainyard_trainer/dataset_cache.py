"""A volume that keeps data sets for later attempts and other jobs: spec.dataset.cache.

    <volume>/datasets/<digest of URI and listing>/...

What a name holds never changes, so a data set that is written anew gets a place of its own. A
process that uses one holds a shared lock on it for as long as it lives; when space is short, those
that nobody uses go, the longest unused first.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from trainyard_trainer.errors import ConfigurationError

SPARE = 1.02
"""How much more than the data itself has to be free: file systems need some for names."""
_held: list[TextIO] = []
"""Locks of this process, kept until it ends."""


def place_of(cache: Path, uri: str, listing_digest: str) -> Path:
    """Where a data set lies in the volume."""
    digest = hashlib.sha256(f"{uri}\n{listing_digest}".encode()).hexdigest()[:32]
    return cache / "datasets" / digest


def hold(place: Path) -> None:
    """Keep a place from being removed, until this process ends."""
    place.parent.mkdir(parents=True, exist_ok=True)
    file = _lock_file(place).open("a")
    with contextlib.suppress(OSError):  # A file system without locks.
        fcntl.flock(file, fcntl.LOCK_SH)
    os.utime(_lock_file(place), (time.time(), time.time()))
    _held.append(file)


def make_room(cache: Path, size_bytes: int) -> int:
    """Remove what nobody uses until so much is free; returns how many data sets went.

    Raises ConfigurationError where that is not enough.
    """
    removed = 0
    for place in _oldest_first(cache):
        if _free_bytes(cache) >= size_bytes * SPARE:
            return removed
        removed += _remove_unused(place)
    free = _free_bytes(cache)
    if free < size_bytes * SPARE:
        raise ConfigurationError(
            f"spec.dataset.cache: the data set needs {size_bytes / 2**20:.0f} MiB, and of the "
            f"volume {free / 2**20:.0f} MiB are free or can be freed; enlarge it."
        )
    return removed


def link_into(place: Path, path: Path) -> None:
    """Make a data set appear at spec.dataset.mountPath, too, where programs look for it."""
    path.mkdir(parents=True, exist_ok=True)
    for old in path.iterdir():
        if old.is_symlink() and old.readlink().parent.parent == place.parent:
            old.unlink()
    for child in place.iterdir():
        link = path / child.name
        if not child.name.startswith(".trainyard-") and not link.exists():
            link.symlink_to(child)


def _lock_file(place: Path) -> Path:
    return place.with_name(place.name + ".lock")


def _oldest_first(cache: Path) -> Iterator[Path]:
    locks = sorted(cache.glob("datasets/*.lock"), key=lambda path: path.stat().st_mtime)
    yield from (path.with_name(path.name.removesuffix(".lock")) for path in locks)


def _remove_unused(place: Path) -> bool:
    """The lock file stays: somebody may be waiting for it."""
    if not place.exists():
        return False
    with _lock_file(place).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(place, ignore_errors=True)
    return True


def _free_bytes(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
