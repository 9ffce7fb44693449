"""Saving checkpoints beside training, and going on from them.

    checkpointer = Checkpointer(storage.child(run.run_prefix), identity, gang, retention)
    loaded = checkpointer.load_latest()
    ...
    checkpointer.save(Position(step=500, epoch=2), state, {"val_loss": .3}, rank_state=...)
    checkpointer.close()

The pause of a save is a copy to host memory; a thread uploads it, one checkpoint at a time, and
talks to the other ranks over a gloo group of its own.
"""

import dataclasses
import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_operator.contract import (
    LATEST_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    checkpoint_prefix,
    now_text,
    part_file,
)
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.gang import Gang
from trainyard_trainer.manifest import Best, Manifest, Part, list_manifests, select_best
from trainyard_trainer.restore import Loaded, load_from, load_latest
from trainyard_trainer.retention import Retention, apply_retention, plan_retention
from trainyard_trainer.saved import Identity, Position, Saved, Timing
from trainyard_trainer.snapshot import Snapshot, write_snapshot
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import CheckpointCorrupt

__all__ = [
    "Best",
    "Checkpointer",
    "Gang",
    "Identity",
    "Loaded",
    "Position",
    "Retention",
    "Saved",
    "load_from",
    "load_latest",
]


@dataclass(frozen=True)
class _Job:
    """One save: everything that its thread needs."""

    position: Position
    files: Mapping[str, Any]
    """Name of a part to its content."""
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class _Outcome:
    """What rank 0 tells the others once a checkpoint is complete."""

    latest: Saved
    best: Saved | None
    kept: int
    warning: str | None


class Checkpointer:
    """Saves and restores one rank's share of a run. `storage` is the run's own."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        gang: Gang | None = None,
        keep: Retention | None = None,
    ) -> None:
        self._storage, self._identity = storage, identity
        self._gang, self._keep = gang or Gang(), keep or Retention()
        self._snapshots = {name: Snapshot() for name in (MODEL_FILE, part_file(self._gang.rank))}
        self._thread: threading.Thread | None = None
        self._resumed: Manifest | None = None
        self._failed_step: int | None = None
        self._upload_warning: str | None = None
        self._restore_warning: str | None = None
        self.timing = Timing()
        self.last_saved: Saved | None = None
        """The newest checkpoint of this run, the one it went on from included."""
        self.best: Saved | None = None
        self.kept: int | None = None
        """How many checkpoints storage holds; None before the first load or save."""

    @property
    def warning(self) -> str | None:
        """One sentence on a failed save or a checkpoint that was set aside; None if all is well.

        The first goes when a save succeeds, the second stays for this attempt.
        """
        return self._upload_warning or self._restore_warning

    def load_latest(self) -> Loaded | None:
        """Where this run left off (see `restore.load_latest`); retention will not delete it."""
        loaded = load_latest(self._storage, self._gang, self._identity)
        if loaded is not None:
            self._resumed, self._restore_warning = loaded.manifest, loaded.warning
            self.last_saved = self._describe(loaded.manifest)
            self.best, self.kept = self._gang.from_first(self._summarize)
        return loaded

    def save(
        self,
        position: Position,
        state: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        rank_state: Mapping[str, Any] | None = None,
        blocking: bool = False,
    ) -> bool:
        """Copy the state now, upload it behind training; every rank calls this at the same step.

        state: what all ranks share; rank 0's is written. state["model"] goes to a file of its
        own. rank_state: this rank's own, such as `rng.capture_rng()`.
        Returns False where nothing was to do, since this step is stored already; if blocking,
        returns whether the step is stored now. Only StateNotPlain is raised: a failed upload
        shows in `warning`, and the next save tries again.
        """
        began = time.monotonic()
        self.wait()
        stored = self.last_saved is not None and self.last_saved.step == position.step
        if not stored:
            job = _Job(position, self._copy(state, rank_state), _finite(metrics or {}))
            self._thread = threading.Thread(
                target=self._run, args=(job,), name="checkpoint", daemon=True
            )
            self._thread.start()
        if blocking:
            self.wait()
        self.timing.blocked_seconds += time.monotonic() - began
        if blocking:
            return self.last_saved is not None and self.last_saved.step == position.step
        return not stored

    def wait(self) -> None:
        """Return once no upload is under way; how it ended shows in `warning`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Wait for the upload under way and free the host copies."""
        self.wait()
        self._snapshots.clear()

    def _copy(
        self, state: Mapping[str, Any], rank_state: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        mine = part_file(self._gang.rank)
        shared = {key: value for key, value in state.items() if key != "model"}
        content = {"shared": shared if self._gang.is_first else {}, "rank": dict(rank_state or {})}
        files = {mine: self._snapshots[mine].take(content)}
        if self._gang.is_first and "model" in state:
            files[MODEL_FILE] = self._snapshots[MODEL_FILE].take(state["model"])
        return files

    def _run(self, job: _Job) -> None:
        """The thread: parts of all ranks, then the manifest, then what may go."""
        began = time.monotonic()
        try:
            parts = self._gang.together(lambda: self._write_parts(job))
            everyone = [part for rank in self._gang.gather(parts) for part in rank]
            outcome = self._gang.from_first(lambda: self._commit(job, everyone))
        except Exception as error:
            self.timing.failures += 1
            self._failed_step = job.position.step
            reason = str(error) if isinstance(error, TrainyardError) else repr(error)
            self._upload_warning = f"Checkpoint step {job.position.step} was not saved: {reason}"
            return
        self.last_saved, self.best, self.kept = outcome.latest, outcome.best, outcome.kept
        self._upload_warning = outcome.warning
        self.timing.saves += 1
        self.timing.upload_seconds += time.monotonic() - began
        self.timing.uploaded_bytes += sum(part.size_bytes for part in parts)

    def _write_parts(self, job: _Job) -> list[Part]:
        prefix = checkpoint_prefix(job.position.step, self._identity.attempt)
        if self._gang.is_first and self._failed_step == job.position.step:
            # The answer to the last manifest write may have been lost: parts change now.
            self._storage.delete([f"{prefix}/{MANIFEST_FILE}"])
        parts = []
        for name, content in sorted(job.files.items()):
            key = f"{prefix}/{name}"
            with self._storage.open_writer(key) as writer:
                write_snapshot(content, writer)
            parts.append(
                Part(
                    key=key,
                    size_bytes=writer.size_bytes,
                    sha256=writer.sha256,
                    rank=self._gang.rank,
                )
            )
        return parts

    def _commit(self, job: _Job, parts: list[Part]) -> _Outcome:
        """Rank 0 only: what is written here, in this order, makes the checkpoint exist."""
        manifest = self._manifest(job, parts)
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
        return _Outcome(self._describe(manifest), best, len(kept), warning)

    def _manifest(self, job: _Job, parts: list[Part]) -> Manifest:
        identity, position = self._identity, job.position
        return Manifest(
            **dataclasses.asdict(identity),
            **dataclasses.asdict(position),
            world_size=self._gang.world_size,
            created_at=now_text(),
            metrics=dict(job.metrics),
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
        resumed = self._resumed.prefix if self._resumed else None
        doomed = plan_retention(listing.valid, self._keep, attempt=attempt, resumed=resumed)
        apply_retention(self._storage, doomed)
        return [manifest for manifest in listing.valid if manifest not in doomed]

    def _summarize(self) -> tuple[Saved | None, int]:
        """The best checkpoint and how many there are."""
        manifests = list_manifests(self._storage).valid
        return self._pick_best(manifests), len(manifests)

    def _pick_best(self, manifests: Sequence[Manifest]) -> Saved | None:
        best = self._keep.best
        chosen = select_best(manifests, best.metric, best.mode) if best else None
        return self._describe(chosen, best) if chosen else None

    def _describe(self, manifest: Manifest, best: Best | None = None) -> Saved:
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


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _hint(manifest: Manifest) -> bytes:
    """For people and tools in a hurry; nothing in Trainyard decides by it."""
    fields = {"step": manifest.step, "attempt": manifest.attempt, "manifest": manifest.key}
    return json.dumps(fields | {"digest": manifest.digest}, sort_keys=True).encode()
