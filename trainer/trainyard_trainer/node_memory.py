"""The newest snapshot, complete and verified, in the memory of the node that made it.

The directory belongs to one job on one node, and outlives a rank, not its pod. It has the layout of
the run's storage, so that whatever reads a checkpoint there reads it here. Ranks of a node share
it; each writes its own parts, and the same manifest when all parts of all ranks are complete.
"""

import os
import shutil
from pathlib import Path

from trainyard_operator.layout import CHECKPOINTS_PREFIX
from trainyard_trainer.cgroup import memory_left_bytes
from trainyard_trainer.files import FileStorage
from trainyard_trainer.manifest import Listing, Manifest, list_manifests
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import StorageError

_FREE_SHARE = 0.1
"""Of the file system, and of the memory, that is left alone."""
_OVERHEAD = 1.02
_OVERHEAD_BYTES = 2**20
"""A file is a little larger than the tensors in it."""


class NodeMemory:
    """One rank's hand on the directory."""

    def __init__(self, directory: Path, uid: str, ranks: int = 1) -> None:
        """ranks: of this node, each of which needs as much room."""
        self._directory, self._uid, self._ranks = directory, uid, ranks
        self._root = directory / uid
        self.storage: Storage = FileStorage(self._root)

    @property
    def place(self) -> str:
        """The directory's path, by which ranks of one node know that they share it."""
        return str(self._root.absolute())

    def sweep_strangers(self) -> None:
        """Remove what runs of another uid have left; a job of the same name may have been here."""
        for place in _folders(self._directory):
            if place.name != self._uid and (place / CHECKPOINTS_PREFIX).is_dir():
                shutil.rmtree(place, ignore_errors=True)

    def has_room(self, size_bytes: int) -> bool:
        """Whether each rank of the node may write as much and a share of the memory stays free."""
        needed = (size_bytes * _OVERHEAD + _OVERHEAD_BYTES) * self._ranks
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            return needed <= room_bytes(self._root)
        except OSError:
            return False

    def manifests(self, owner: Identity) -> Listing:
        """The run's own; another run's are not even mentioned."""
        try:
            listing = list_manifests(self.storage)
        except StorageError:
            return Listing()
        return Listing(tuple(m for m in listing.valid if owner.owns(m)), listing.rejected)

    def complete(self, manifest: Manifest) -> bool:
        """Write the manifest beside the parts; returns whether it is there."""
        try:
            self.storage.write(manifest.key, manifest.to_json())
        except StorageError:
            return False
        return True

    def keep_only(self, *prefixes: str | None) -> None:
        """Remove all other checkpoints, half-written ones too."""
        kept = {prefix.rpartition("/")[2] for prefix in prefixes if prefix}
        for place in _folders(self._root / CHECKPOINTS_PREFIX):
            if place.name not in kept:
                shutil.rmtree(place, ignore_errors=True)

    def clear(self) -> None:
        """Give all memory back."""
        shutil.rmtree(self._root, ignore_errors=True)


def room_bytes(directory: Path) -> int:
    """What may be written there: the least that the file system and the container have left."""
    status = os.statvfs(directory)
    free = (status.f_bavail - _FREE_SHARE * status.f_blocks) * status.f_frsize
    left = memory_left_bytes()
    return int(free if left is None else min(free, left * (1 - _FREE_SHARE)))


def _folders(directory: Path) -> list[Path]:
    try:
        return [place for place in directory.iterdir() if place.is_dir()]
    except OSError:
        return []
