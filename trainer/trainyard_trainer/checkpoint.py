"""Saving checkpoints beside training, and going on from them; for any PyTorch program.

    checkpointer = Checkpointer.open("s3://bucket/my-run")
    loaded = checkpointer.load_latest()
    ...
    checkpointer.save(step, {"model": model.state_dict()}, {"val_loss": 0.3})
    checkpointer.close()

The pause of a save is a copy to host memory; a thread uploads it, one checkpoint at a time, and
talks to the other ranks over a gloo group of its own. A save that is due meanwhile is skipped by
all ranks together: training does not wait for storage.
"""

import functools
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard_operator.layout import MODEL_FILE, part_file
from trainyard_trainer.console import log
from trainyard_trainer.dialect import find_dialect
from trainyard_trainer.errors import ConfigurationError, PeerLost, TrainyardError
from trainyard_trainer.gang import Gang
from trainyard_trainer.manifest import Best
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.recovery import load_latest
from trainyard_trainer.restore import Loaded, load_from
from trainyard_trainer.retention import Retention, claim_attempt
from trainyard_trainer.rng import capture_rng, restore_rng
from trainyard_trainer.saved import Identity, Need, Position, Saved, Timing
from trainyard_trainer.shards import ALL_FIRST, Deal, deal, merge, tensors_of
from trainyard_trainer.snapshot import Snapshot, Toucher
from trainyard_trainer.storage import Storage, open_storage
from trainyard_trainer.storage_errors import StateNotPlain, StorageFull, StorageUnreachable
from trainyard_trainer.upload import Upload, Uploader

__all__ = [
    "Best",
    "Checkpointer",
    "Gang",
    "Identity",
    "Loaded",
    "Need",
    "NodeMemory",
    "Position",
    "Retention",
    "Saved",
    "capture_rng",
    "load_from",
    "load_latest",
    "restore_rng",
]

REQUIRED_SECONDS = 600.0
"""A required save waits no longer for storage."""
BEST_SECONDS = 60.0
"""Training waits so long, from its start, for an upload that keeps the best model from a save."""
SLOW_SECONDS = 60.0
"""An upload that takes longer is worth a warning once a save is skipped for it."""
RETRY_PAUSES = (1.0, 4.0, 10.0)
"""Before a blocking save that met an absent storage is tried again."""
_TRANSIENT = (StorageUnreachable, StorageFull, PeerLost)
_State = Mapping[str, Any]


class Checkpointer:
    """Saves and restores one rank's share of a run. `storage` is the run's own."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        gang: Gang | None = None,
        keep: Retention | None = None,
        memory: NodeMemory | None = None,
    ) -> None:
        """memory: of this node; all ranks have one or none has."""
        self._storage, self._identity, self._memory = storage, identity, memory
        self._gang = gang or Gang()
        self._uploader = Uploader(storage, identity, self._gang, keep or Retention(), memory)
        self._snapshots = {name: Snapshot() for name in (MODEL_FILE, part_file(self._gang.rank))}
        self._toucher: Toucher | None = None
        self._thread: threading.Thread | None = None
        self._step: int | None = None
        """Of the newest upload, under way or done."""
        self._began = 0.0
        self._is_hopeless = False
        """The last upload failed for a reason that time does not mend."""
        self._skipped = 0
        """Since the newest upload began."""
        self._upload_warning: str | None = None
        self._restore_warning: str | None = None
        self.logs_warnings = False
        """Whether each warning is logged as it arises; the engine tells of them itself."""
        self.required_seconds = REQUIRED_SECONDS
        self.retry_pauses: tuple[float, ...] = RETRY_PAUSES
        self.timing = Timing()
        self.last_saved: Saved | None = None
        """The newest checkpoint in storage of this run, the one it went on from included."""
        self.best: Saved | None = None
        self.kept: int | None = None
        """How many checkpoints storage holds; None before the first load or save."""

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        job: str = "training",
        keep: Retention | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        node_memory: Path | None = None,
    ) -> "Checkpointer":
        """For a program of one's own: the checkpoints of one run, at `uri`; all ranks call it.

        uri: s3://bucket/prefix or file:///directory, of this run alone. job: its name, in the
        manifests. endpoint: of an S3 server that is not Amazon's; what it understands is found
        out. node_memory: a directory below /dev/shm, for a restart on this machine. The ranks are
        those of torch.distributed. What `warning` says is logged, too, by the logger `trainyard`.
        Raises ConfigurationError where other ranks cannot be reached.
        """
        gang = Gang.form()
        _require_all_ranks(gang)
        open_as = functools.partial(_open, uri, endpoint, region)
        storage = open_as(gang.from_first(lambda: find_dialect(open_as)))
        attempt = gang.from_first(lambda: claim_attempt(storage))
        identity = Identity(namespace="", job=job, uid=job, attempt=attempt)
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        memory = NodeMemory(node_memory, job, ranks) if node_memory else None
        opened = cls(storage, identity, gang, keep, memory)
        opened.logs_warnings = gang.is_first
        return opened

    @property
    def warning(self) -> str | None:
        """One sentence on what is degraded: slow or absent storage, a checkpoint set aside.

        The first goes when a save succeeds, the second stays for this attempt.
        """
        return self._slowness() or self._upload_warning or self._restore_warning

    @property
    def storage_warning(self) -> str | None:
        """One sentence on storage that is away, full, slow or refusing; None while it is well."""
        return self._slowness() or self._upload_warning or self._storage.trouble

    @property
    def is_uploading(self) -> bool:
        """Whether this rank's thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def load_latest(self) -> Loaded | None:
        """Where this run left off (see `restore.load_latest`); retention will not delete it."""
        if self._memory is not None:
            self._memory.sweep_strangers()
        uploader = self._uploader
        loaded = load_latest(self._storage, self._gang, self._identity, self._memory)
        if loaded is not None:
            self._restore_warning = self._told(loaded.warning)
            uploader.take_up(loaded)
            self.last_saved = uploader.describe(uploader.stored) if uploader.stored else None
            self.best, self.kept = self._gang.from_first(uploader.summarize)
        return loaded

    def prepare(
        self, state: _State, *, replicated: _State | None = None, rank_state: _State | None = None
    ) -> None:
        """Make room for a snapshot of such a state behind training, so that the first is quick."""
        if self._toucher is not None:
            self._toucher.stop()
        files = self._files(state, replicated, rank_state, self._deal(state, replicated))
        buffers = [b for name, one in files.items() for b in self._snapshots[name].prepare(one)]
        self._toucher = Toucher(buffers)

    def save(
        self,
        position: Position | int,
        state: _State,
        metrics: Mapping[str, float] | None = None,
        *,
        replicated: _State | None = None,
        rank_state: _State | None = None,
        need: Need = Need.USUAL,
        blocking: bool = False,
    ) -> bool:
        """Copy the state now, upload it behind training; every rank calls this at the same step.

        state: what all ranks share; rank 0's is written, state["model"] to a file of its own.
        replicated: more of it, equal on all ranks to the bit, such as optimizers under DDP: each
        rank writes a part of it. rank_state: this rank's own, such as `rng.capture_rng()`.
        blocking: return only once it is in storage, or cannot be.
        Returns whether the step is stored or on its way there; if blocking, whether it is stored.
        Only StateNotPlain is raised: what else went wrong shows in `warning`.
        """
        began = time.monotonic()
        try:
            if isinstance(position, int):
                position = Position(step=position)
            self._make_way(Need.REQUIRED if blocking else need)
            dealt = self._deal(state, replicated)
            vote = self._vote(position.step, dealt)
            if vote.is_busy:
                return self._skip(position.step, need, blocking=blocking)
            if not vote.is_missing:
                return True
            files = self._files(
                state, replicated, rank_state, dealt if vote.is_alike else ALL_FIRST
            )
            copies = self._copy(files)
            upload = Upload(position, copies, metrics or {}, self.timing.host_bytes)
            self._start(upload)
            return self._see_through(upload, began) if blocking else True
        finally:
            self.timing.blocked_seconds += time.monotonic() - began

    def allow_again(self) -> None:
        """Let the newest step be saved once more, such as with the metrics that it lacked."""
        self.last_saved = None

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Return once no upload is under way; how it ended shows in `warning`."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def close(self) -> None:
        """Wait for the upload under way, up to the limit, and free what was held in memory."""
        self.wait(self.required_seconds)
        if self._memory is not None and self._uploader.is_all_stored and not self.is_uploading:
            self._memory.clear()
        if self._toucher is not None:
            self._toucher.stop()
        self._snapshots.clear()

    def _make_way(self, need: Need) -> None:
        """Wait for the upload under way as long as this save is worth it."""
        if need is Need.REQUIRED:
            self.wait(self.required_seconds)
        elif need is Need.BEST and self._upload_warning is None:
            self.wait(max(0.0, self._began + BEST_SECONDS - time.monotonic()))

    def _vote(self, step: int, dealt: Deal) -> "_Vote":
        busy, missing, most, least = self._gang.highest(
            [self.is_uploading, not self._is_stored(step), dealt.digest, -dealt.digest]
        )
        return _Vote(bool(busy), bool(missing), most == -least)

    def _is_stored(self, step: int) -> bool:
        return self.last_saved is not None and self.last_saved.step == step

    def _skip(self, step: int, need: Need, *, blocking: bool) -> bool:
        if step == self._step and not blocking:
            return True
        self.timing.skipped += 1
        self._skipped += 1
        if blocking or need is Need.REQUIRED:
            self._upload_warning = self._told(
                f"Checkpoint step {step} was not saved: the upload of step {self._step} was not "
                f"done within {self.required_seconds:.0f} s."
            )
        return False

    def _told(self, sentence: str | None) -> str | None:
        """The sentence, once it is logged where that is wanted."""
        if sentence and self.logs_warnings:
            log.warning("%s", sentence)
        return sentence

    def _slowness(self) -> str | None:
        seconds = time.monotonic() - self._began
        if not self._skipped or not self.is_uploading or seconds < SLOW_SECONDS:
            return None
        return (
            f"Storage is slow: checkpoint step {self._step} has been uploading for {seconds:.0f} "
            f"s, {self._skipped} later one(s) were skipped; training goes on."
        )

    def _deal(self, state: _State, replicated: _State | None) -> Deal:
        model = state.get("model", {})
        if not isinstance(model, Mapping):  # The module in the place of its state_dict().
            raise StateNotPlain("model", type(model).__name__)
        weights = sum(tensor.nbytes for tensor in tensors_of(model))
        return deal(replicated or {}, self._gang.world_size, weights)

    def _files(
        self,
        state: _State,
        replicated: _State | None,
        rank_state: _State | None,
        dealt: Deal,
    ) -> dict[str, Any]:
        """What this rank writes, by the name of the part."""
        gang = self._gang
        shared = {key: value for key, value in state.items() if gang.is_first and key != "model"}
        shared = merge(shared, dealt.share(replicated or {}, gang.rank))
        files: dict[str, Any] = {part_file(gang.rank): {"shared": shared, "rank": rank_state or {}}}
        if gang.is_first and "model" in state:
            files[MODEL_FILE] = state["model"]
        return files

    def _copy(self, files: Mapping[str, Any]) -> dict[str, Any]:
        if self._toucher is not None:
            self._toucher.stop()
        copies = {name: self._snapshots[name].take(content) for name, content in files.items()}
        self.timing.host_bytes = sum(one.size_bytes for one in self._snapshots.values())
        return copies

    def _start(self, upload: Upload) -> None:
        self._step, self._began, self._skipped = upload.position.step, time.monotonic(), 0
        self._thread = threading.Thread(
            target=self._run, args=(upload,), name="checkpoint", daemon=True
        )
        self._thread.start()

    def _see_through(self, upload: Upload, began: float) -> bool:
        """Wait for a blocking save; tried again a few times while storage is away."""
        step = upload.position.step
        for pause in (*self.retry_pauses, None):
            self.wait(max(0.0, began + self.required_seconds - time.monotonic()))
            late, missing, hopeless = self._gang.highest(
                [self.is_uploading, not self._is_stored(step), self._is_hopeless]
            )
            if late:
                self._skip(step, Need.REQUIRED, blocking=True)
            if late or hopeless or not missing or pause is None:
                return not missing
            time.sleep(pause)
            self._start(upload)
        return False

    def _run(self, upload: Upload) -> None:
        """The thread."""
        began, step = time.monotonic(), upload.position.step
        try:
            outcome, size_bytes = self._uploader.store(upload)
        except Exception as error:
            self.timing.failures += 1
            self._is_hopeless = not isinstance(error, _TRANSIENT)
            reason = str(error) if isinstance(error, TrainyardError) else repr(error)
            place = " It is in the nodes' memory." if self._uploader.has_in_memory(step) else ""
            sentence = f"Checkpoint step {step} was not saved: {reason}{place}"
            self._upload_warning = self._told(sentence)
            return
        finally:
            self.timing.memory_bytes = self._uploader.memory_bytes
        self._upload_warning = self._told(outcome.warning)
        self.best, self.kept = outcome.best, outcome.kept
        self.timing.saves += 1
        self.timing.upload_seconds += time.monotonic() - began
        self.timing.uploaded_bytes += size_bytes
        self.last_saved = outcome.latest


def _require_all_ranks(gang: Gang) -> None:
    ranks = os.environ.get("WORLD_SIZE", "1")
    if gang.world_size == 1 and ranks.isdecimal() and int(ranks) > 1:
        raise ConfigurationError(
            f"WORLD_SIZE is {ranks}, but torch.distributed is not initialised; call "
            "torch.distributed.init_process_group() before Checkpointer.open()."
        )


@dataclass(frozen=True)
class _Vote:
    """What the ranks know together before a save."""

    is_busy: bool
    """One of them is still uploading."""
    is_missing: bool
    """The step is not stored yet."""
    is_alike: bool
    """What is to be dealt out has the same names and shapes everywhere."""


def _open(uri: str, endpoint: str | None, region: str | None, dialect: str) -> Storage:
    field = "Checkpointer.open(uri)"
    return open_storage(uri, endpoint=endpoint, region=region, compat=dialect, field=field)
