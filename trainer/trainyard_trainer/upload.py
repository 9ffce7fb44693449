"""What the checkpoint thread does: parts of all ranks, then the manifest, then what may go."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_operator.contract import (
    LATEST_FILE,
    MANIFEST_FILE,
    checkpoint_prefix,
    now_text,
)
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.gang import Gang
from trainyard_trainer.manifest import Best, Manifest, Part, list_manifests, select_best
from trainyard_trainer.retention import Retention, apply_retention, plan_retention
from trainyard_trainer.saved import Identity, Position, Saved
from trainyard_trainer.snapshot import write_snapshot
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import CheckpointCorrupt


@dataclass(frozen=True)
class Upload:
    """One save: everything that its thread needs."""

    position: Position
    files: Mapping[str, Any]
    """Name of a part to its content."""
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """What rank 0 tells the others once a checkpoint is complete."""

    latest: Saved
    best: Saved | None
    kept: int
    warning: str | None


class Uploader:
    """Makes checkpoints exist. Every rank calls `store` for the same step at the same time."""

    def __init__(self, storage: Storage, identity: Identity, gang: Gang, keep: Retention) -> None:
        self._storage, self._identity, self._gang, self._keep = storage, identity, gang, keep
        self._failed_step: int | None = None
        self.resumed: Manifest | None = None
        """The checkpoint that this attempt went on from; never deleted."""

    def store(self, upload: Upload) -> tuple[Outcome, int]:
        """Returns once the checkpoint is in storage, with the bytes that this rank wrote."""
        try:
            parts = self._gang.collect(lambda: self._write_parts(upload))
            everyone = [part for rank in parts for part in rank]
            outcome = self._gang.from_first(lambda: self._commit(upload, everyone))
        except Exception:
            self._failed_step = upload.position.step
            raise
        return outcome, sum(part.size_bytes for part in parts[self._gang.rank])

    def summarize(self) -> tuple[Saved | None, int]:
        """The best checkpoint and how many there are."""
        manifests = list_manifests(self._storage).valid
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

    def _write_parts(self, upload: Upload) -> list[Part]:
        prefix = checkpoint_prefix(upload.position.step, self._identity.attempt)
        if self._gang.is_first and self._failed_step == upload.position.step:
            # The answer to the last manifest write may have been lost: parts change now.
            self._storage.delete([f"{prefix}/{MANIFEST_FILE}"])
        parts = []
        for name, content in sorted(upload.files.items()):
            key = f"{prefix}/{name}"
            with self._storage.open_writer(key) as writer:
                write_snapshot(content, writer)
            size, digest = writer.size_bytes, writer.sha256
            parts.append(Part(key=key, size_bytes=size, sha256=digest, rank=self._gang.rank))
        return parts

    def _commit(self, upload: Upload, parts: list[Part]) -> Outcome:
        """Rank 0 only: what is written here, in this order, makes the checkpoint exist."""
        manifest = self._manifest(upload, parts)
        self._check_sizes(manifest)
        self._storage.write(manifest.key, manifest.to_json(), if_absent=True)
        warning = None
        try:
            self._storage.write(LATEST_FILE, _hint(manifest))
            kept = self._retain()
        except TrainyardError as error:
            # The checkpoint is complete; the next save tidies up.
            warning = f"Old checkpoints were not deleted: {error}"
            kept = list(list_manifests(self._storage).valid)
        best = self._pick_best(kept)
        return Outcome(self.describe(manifest), best, len(kept), warning)

    def _manifest(self, upload: Upload, parts: list[Part]) -> Manifest:
        return Manifest(
            **dataclasses.asdict(self._identity),
            **dataclasses.asdict(upload.position),
            world_size=self._gang.world_size,
            created_at=now_text(),
            metrics=_finite(upload.metrics),
            best=self._keep.best,
            parts=tuple(parts),
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
        listing = list_manifests(self._storage)
        resumed = self.resumed.prefix if self.resumed else None
        doomed = plan_retention(listing.valid, self._keep, attempt=attempt, resumed=resumed)
        apply_retention(self._storage, doomed)
        return [manifest for manifest in listing.valid if manifest not in doomed]

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
