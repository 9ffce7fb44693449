"""Reading checkpoints back: only bytes that match their manifest ever reach `torch.load`."""

from dataclasses import dataclass
from typing import Any

from trainyard_operator.layout import MODEL_FILE
from trainyard_trainer.gang import Gang
from trainyard_trainer.landing import Landing, land
from trainyard_trainer.manifest import (
    Listing,
    Manifest,
    Part,
    best_of,
    list_manifests,
    read_part,
)
from trainyard_trainer.node_reader import NodeReader
from trainyard_trainer.shards import merge
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    NoValidCheckpoint,
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in host memory."""

    state: dict[str, Any]
    """What all ranks share, as it was given to `save`."""
    rank_state: dict[str, Any] | None
    """What this rank alone had saved; None where the run had fewer ranks then."""
    manifest: Manifest
    warning: str | None = None
    """What was set aside to get here, in a sentence or two."""
    stored: Manifest | None = None
    """The newest checkpoint in storage, as far as its manifest tells; None: not known."""
    is_remembered: bool = False
    """The nodes' memory has it."""

    def is_elastic(self, world_size: int) -> bool:
        """Whether the number of ranks changed: the run goes on, but not bit by bit."""
        return self.manifest.world_size != world_size


def load_from(storage: Storage, which: str | int, gang: Gang | None = None) -> Loaded:
    """A named checkpoint of another run, whose storage this is; nothing is set aside there.

    which: "latest", "best" (by what that run went by), or a step.
    Raises CheckpointNotFound, CheckpointCorrupt, NoValidCheckpoint.
    """
    gang = gang or Gang()
    manifest = gang.from_first(lambda: find_manifest(storage, which))
    return _load(storage, manifest, gang, gang.rank)


def find_manifest(storage: Storage, which: str | int) -> Manifest:
    """The manifest that `which` names; see `load_from`."""
    listing = list_manifests(storage)
    if found := _pick(listing, str(which)):
        return found
    if listing.rejected and not listing.valid:
        raise NoValidCheckpoint(storage.uri, tuple(r.reason for r in listing.rejected))
    raise CheckpointNotFound(storage.uri, str(which))


def _pick(listing: Listing, which: str) -> Manifest | None:
    if which == "latest":
        return next(iter(listing.valid), None)
    if which == "best":
        return best_of(listing.valid)
    return next((m for m in listing.valid if str(m.step) == which), None)


def load_checkpoint(storage: Storage, manifest: Manifest, rank: int = 0) -> Loaded:
    """Read and verify every part, and merge what they share. Raises CheckpointCorrupt."""
    return _load(storage, manifest, Gang(), rank)


def _load(storage: Storage, manifest: Manifest, gang: Gang, rank: int) -> Loaded:
    assembly, reader = Assembly(manifest, rank), NodeReader(gang)
    for wave in reader.waves(manifest.parts):
        contents = reader.load(manifest, wave, lambda part: land_stored(storage, manifest, part))
        for part, content in zip(wave, contents, strict=True):
            assembly.add(part, content)
    return assembly.loaded()


class Assembly:
    """Puts a checkpoint together for one rank, part by part."""

    def __init__(self, manifest: Manifest, rank: int) -> None:
        self._manifest, self._rank = manifest, rank
        self._state: dict[str, Any] = {}
        self._rank_state: dict[str, Any] | None = None

    def add(self, part: Part, content: Any) -> None:
        """Take what a part holds."""
        if part.name == MODEL_FILE:
            content = {"shared": {"model": content}}
        elif part.rank == self._rank:
            self._rank_state = content["rank"]
        self._state = merge(self._state, content["shared"])

    def loaded(self) -> Loaded:
        """Once all parts are there."""
        return Loaded(self._state, self._rank_state, self._manifest)


def load_part(storage: Storage, manifest: Manifest, part: Part, gang: Gang | None = None) -> Any:
    """One part, on the CPU; every rank calls it. Raises CheckpointCorrupt, on all ranks alike."""
    reader = NodeReader(gang or Gang())
    (content,) = reader.load(manifest, [part], lambda one: land_stored(storage, manifest, one))
    return content


def land_stored(storage: Storage, manifest: Manifest, part: Part) -> Landing:
    """Bring a part here; read again once where it differs, for the network may be to blame.

    Raises CheckpointCorrupt.
    """
    try:
        return land(manifest, part, read_part(storage, manifest, part))
    except CheckpointCorrupt:
        return land(manifest, part, read_part(storage, manifest, part))
