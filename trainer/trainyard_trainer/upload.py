"""What the checkpoint thread does: parts of all ranks, then the manifest, then what may go.

Where the nodes have memory to spare, a snapshot is serialised into it, once, is a complete
checkpoint there, and is sent to storage from there.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trainyard_operator.contract import now_text
from trainyard_operator.layout import (
    CHECKPOINTS_PREFIX,
    LATEST_FILE,
    MANIFEST_FILE,
    QUARANTINE_PREFIX,
    checkpoint_prefix,
)
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.gang import Gang
from trainyard_trainer.manifest import (
    Best,
    Listing,
    Manifest,
    Part,
    list_manifests,
    read_part,
    select_best,
)
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.restore import Loaded
from trainyard_trainer.retention import (
    Retention,
    apply_retention,
    apply_sweep,
    plan_retention,
    plan_sweep,
)
from trainyard_trainer.saved import Identity, Position, Saved
from trainyard_trainer.snapshot import write_snapshot
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import CheckpointCorrupt, StorageError


@dataclass(frozen=True)
class Upload:
    """One save: everything that its thread needs."""

    position: Position
    files: Mapping[str, Any]
    """Name of a part to its content."""
    metrics: Mapping[str, float]
    size_bytes: int = 0
    """Of all tensors in `files`."""


@dataclass(frozen=True)
class _Written:
    """One rank's parts."""

    parts: list[Part]
    is_in_memory: bool
    """They are in the node's memory, and yet to be sent; else in storage already."""


@dataclass(frozen=True)
class Outcome:
    """What rank 0 tells the others once a checkpoint is complete."""

    latest: Saved
    best: Saved | None
    kept: int
    warning: str | None


class Uploader:
    """Makes checkpoints exist. Every rank calls `store` for the same step at the same time."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        gang: Gang,
        keep: Retention,
        memory: NodeMemory | None = None,
    ) -> None:
        self._storage, self._identity, self._gang, self._keep = storage, identity, gang, keep
        self._memory = memory
        self._known: dict[str, Manifest] = {}
        """Rank 0: the manifests in storage, by key; all are read once, when the run is taken up."""
        self._failed_step: int | None = None
        self._is_untidy = True
        """An earlier attempt, or a failed save of this one, may have left parts."""
        self.remembered: Manifest | None = None
        """The checkpoint that is complete in the memory of all nodes."""
        self.resumed: Manifest | None = None
        """The checkpoint in storage that this attempt went on from; never deleted."""
        self.stored: Manifest | None = None
        """The newest checkpoint in storage."""

    def store(self, upload: Upload) -> tuple[Outcome, int]:
        """Returns once the checkpoint is in storage, with the bytes that this rank wrote."""
        try:
            written = self._gang.collect(lambda: self._write_parts(upload))
            manifest = self._gang.from_first(lambda: self._manifest(upload, written))
            mine = written[self._gang.rank]
            if all(rank.is_in_memory for rank in written):
                self._remember(manifest)
            self._gang.together(lambda: self._send(manifest, mine))
            outcome = self._gang.from_first(lambda: self._commit(manifest))
        except Exception:
            self._failed_step, self._is_untidy = upload.position.step, True
            raise
        self.stored = manifest
        if self._memory and self.remembered and self.remembered.prefix != manifest.prefix:
            self.remembered = None  # Older than what is in storage now.
        self._tidy_memory()
        return outcome, sum(part.size_bytes for part in mine.parts)

    def take_up(self, loaded: Loaded) -> None:
        """Go on from a checkpoint, be it in storage or in the nodes' memory."""
        self.stored = loaded.stored
        self.resumed = loaded.manifest if loaded.manifest == loaded.stored else None
        self.remembered = loaded.manifest if loaded.is_remembered else None
        self._tidy_memory()

    @property
    def is_all_stored(self) -> bool:
        """Whether nothing lies in memory that storage has not got."""
        return self.remembered is None or self.remembered == self.stored

    def has_in_memory(self, step: int) -> bool:
        """Whether all nodes remember this step."""
        return self.remembered is not None and self.remembered.step == step

    @property
    def memory_bytes(self) -> int:
        """What this rank's parts of the remembered checkpoint take."""
        parts = self.remembered.parts if self.remembered else ()
        return sum(part.size_bytes for part in parts if part.rank == self._gang.rank)

    def summarize(self) -> tuple[Saved | None, int | None]:
        """The best checkpoint and how many there are; nothing is known while storage is away."""
        try:
            manifests = self._list().valid
        except StorageError:
            return None, None
        return self._pick_best(manifests), len(manifests)

    def describe(self, manifest: Manifest, best: Best | None = None) -> Saved:
        """A stored checkpoint, as the progress report shows it."""
        return Saved(
            step=manifest.step,
            epoch=manifest.epoch,
            uri=self._storage.uri_of(manifest.prefix),
            size_bytes=manifest.size_bytes,
            sha256=manifest.digest,
            time=manifest.created_at,
            metric=best.metric if best else None,
            value=manifest.metrics[best.metric] if best else None,
        )

    def _write_parts(self, upload: Upload) -> _Written:
        prefix = checkpoint_prefix(upload.position.step, self._identity.attempt)
        again = self._failed_step == upload.position.step
        if self.remembered and self.remembered.prefix == prefix:
            self.remembered = None
        if again and self._gang.is_first:
            # The answer to the last manifest write may have been lost: parts change now.
            self._known.pop(f"{prefix}/{MANIFEST_FILE}", None)
            self._storage.delete([f"{prefix}/{MANIFEST_FILE}"])
        if self._memory is not None and self._has_room(self._memory, upload, prefix):
            with suppress(StorageError):
                if again:
                    self._memory.storage.delete([f"{prefix}/{MANIFEST_FILE}"])
                return _Written(self._write_to(self._memory.storage, prefix, upload), True)
        return _Written(self._write_to(self._storage, prefix, upload), False)

    def _write_to(self, storage: Storage, prefix: str, upload: Upload) -> list[Part]:
        parts = []
        for name, content in sorted(upload.files.items()):
            key = f"{prefix}/{name}"
            with storage.open_writer(key) as writer:
                write_snapshot(content, writer)
            size, digest = writer.size_bytes, writer.sha256
            parts.append(Part(key=key, size_bytes=size, sha256=digest, rank=self._gang.rank))
        return parts

    def _has_room(self, memory: NodeMemory, upload: Upload, prefix: str) -> bool:
        held = self.remembered.prefix if self.remembered else None
        memory.keep_only(held, prefix)
        if memory.has_room(upload.size_bytes):
            return True
        if held is None or self.remembered != self.stored:
            return False
        memory.keep_only(prefix)  # Storage has it, too: a newer one is worth more.
        return memory.has_room(upload.size_bytes)

    def _remember(self, manifest: Manifest) -> None:
        """From here on, all ranks can go on from the nodes' memory."""
        memory = self._memory
        if all(self._gang.gather(memory is not None and memory.complete(manifest))):
            self.remembered = manifest
            self._tidy_memory()

    def _tidy_memory(self) -> None:
        if self._memory is not None:
            self._memory.keep_only(self.remembered.prefix if self.remembered else None)

    def _send(self, manifest: Manifest, written: _Written) -> None:
        """From the node's memory to storage."""
        if self._memory is None or not written.is_in_memory:
            return
        for part in written.parts:
            with self._storage.open_writer(part.key) as writer:
                for chunk in read_part(self._memory.storage, manifest, part):
                    writer.write(chunk)
            if (writer.size_bytes, writer.sha256) != (part.size_bytes, part.sha256):
                problem = "was altered in the node's memory"
                raise CheckpointCorrupt(manifest.step, part.name, problem)

    def _commit(self, manifest: Manifest) -> Outcome:
        """Rank 0 only: what is written here, in this order, makes the checkpoint exist."""
        self._check_sizes(manifest)
        self._storage.write(manifest.key, manifest.to_json(), if_absent=True)
        self._known[manifest.key] = manifest
        warning = None
        try:
            self._storage.write(LATEST_FILE, _hint(manifest))
            kept = self._retain()
        except TrainyardError as error:
            # The checkpoint is complete; the next save tidies up.
            warning = f"Old checkpoints were not deleted: {error}"
            kept = list(self._list().valid)
        best = self._pick_best(kept)
        return Outcome(self.describe(manifest), best, len(kept), warning)

    def _manifest(self, upload: Upload, written: Sequence[_Written]) -> Manifest:
        return Manifest(
            **dataclasses.asdict(self._identity),
            **dataclasses.asdict(upload.position),
            world_size=self._gang.world_size,
            created_at=now_text(),
            metrics=_finite(upload.metrics),
            best=self._keep.best,
            parts=tuple(part for rank in written for part in rank.parts),
        )

    def _check_sizes(self, manifest: Manifest) -> None:
        """Believe storage, not the writers, on what is there."""
        there = {e.key: e.size_bytes for e in self._storage.list(manifest.prefix + "/")}
        for part in manifest.parts:
            if there.get(part.key) != part.size_bytes:
                problem = f"has {there.get(part.key, 0)} of its {part.size_bytes} bytes"
                raise CheckpointCorrupt(manifest.step, part.name, problem)

    def _retain(self) -> list[Manifest]:
        """Delete what need not be kept; returns what is left."""
        attempt = self._identity.attempt
        listing = self._list()
        resumed = self.resumed.prefix if self.resumed else None
        doomed = plan_retention(listing.valid, self._keep, attempt=attempt, resumed=resumed)
        apply_retention(self._storage, doomed)
        if self._is_untidy and all(m.attempt <= attempt for m in listing.valid):
            prefixes = (f"{CHECKPOINTS_PREFIX}/", f"{QUARANTINE_PREFIX}/")
            keys = [entry.key for prefix in prefixes for entry in self._storage.list(prefix)]
            apply_sweep(self._storage, plan_sweep(keys, attempt=attempt))
            self._is_untidy = False
        return [manifest for manifest in listing.valid if manifest not in doomed]

    def _list(self) -> Listing:
        listing = list_manifests(self._storage, self._known)
        self._known = {manifest.key: manifest for manifest in listing.valid}
        return listing

    def _pick_best(self, manifests: Sequence[Manifest]) -> Saved | None:
        best = self._keep.best
        chosen = select_best(manifests, best.metric, best.mode) if best else None
        return self.describe(chosen, best) if chosen else None


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _hint(manifest: Manifest) -> bytes:
    """For people and tools in a hurry; nothing in Trainyard decides by it."""
    fields = {"step": manifest.step, "attempt": manifest.attempt, "manifest": manifest.key}
    return json.dumps(fields | {"digest": manifest.digest}, sort_keys=True).encode()
