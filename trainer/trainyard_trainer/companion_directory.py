"""A program's checkpoint directory, from before its start to after its end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard_operator.contract import Env
from trainyard_trainer.context import RunContext
from trainyard_trainer.directory import EVERY_SECONDS, SETTLE_SECONDS, Watch, scan
from trainyard_trainer.directory_keeper import DirectoryKeeper
from trainyard_trainer.directory_restore import Restored, restore, restore_other
from trainyard_trainer.directory_store import DirectoryStore
from trainyard_trainer.initial_source import source_of
from trainyard_trainer.manifest import Best
from trainyard_trainer.preparation import retry
from trainyard_trainer.program import READY
from trainyard_trainer.program_report import ProgramReport
from trainyard_trainer.program_summary import End
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import StorageError

STOP_SECONDS = 45.0
"""For the last copy on a request to stop; the pod is killed soon after."""
FAILURE_SECONDS = 20.0
"""For the last copy of a program that failed: its peers wait for the next attempt."""
COPIES_PER_LIFE = 100_000
"""A companion that starts again must not write a copy's name twice."""

Say = Callable[[str], None]


class DirectoryLost(StorageError):
    """What a program left when it ended well is not stored."""


class ProgramDirectory:
    """Restored on every node; kept in storage from the first node alone."""

    def __init__(
        self, run: RunContext, shared: Path, report: ProgramReport, say: Say, life: int
    ) -> None:
        """life: how many companions there were before in this pod."""
        self._run, self._shared, self._report, self._say = run, shared, report, say
        self._life = life
        self._root = shared / "checkpoint"
        self._store: DirectoryStore | None = None
        self._keeper: DirectoryKeeper | None = None
        self._begun_with: dict[str, Any] = {}
        self._has_warned = False

    def prepare(self, storage: Storage) -> None:
        """Put back what an earlier attempt left, and begin to watch."""
        has_begun = (self._shared / READY).exists()
        restored = Restored() if has_begun else retry(lambda: self._restore(storage), self._say,
                                                      time.sleep)  # fmt: skip
        self._begun_with = scan(self._root)
        if restored.manifest is not None:
            self._say(f"checkpoint directory: restored {restored.manifest.name}, "
                      f"{len(restored.manifest.files)} files")  # fmt: skip
            self._report.resumed_step = restored.manifest.step
        if self._run.node_index == 0:
            self._report.warning = restored.warning
            self._begin(storage, restored)

    def _restore(self, storage: Storage) -> Restored:
        run, is_first = self._run, self._run.node_index == 0
        restored = restore(storage, self._root, before=run.attempt, set_aside=is_first)
        resume_from = run.request.checkpoint.get("resumeFrom")
        if restored.manifest is not None or not resume_from:
            return restored
        root, which = run.storage.open(), str(resume_from.get("checkpoint") or "latest")
        prefix = source_of(root, run.namespace, str(resume_from["job"]))
        return restore_other(root.child(prefix), self._root, which)

    def _begin(self, storage: Storage, restored: Restored) -> None:
        run, checkpoint = self._run, self._run.request.checkpoint
        store = DirectoryStore(
            storage,
            Identity(namespace=run.namespace, job=run.job, uid=run.uid, attempt=run.attempt),
            int(checkpoint.get("keepLast") or 3),
            Best.from_spec(checkpoint),
            first_sequence=self._life * COPIES_PER_LIFE,
        )
        manifest = restored.manifest
        is_own = manifest is not None and manifest.uid == run.uid
        stored = store.take_up(self._root, manifest) if manifest and is_own else {}
        every = checkpoint.get("everySeconds")
        settle = min(SETTLE_SECONDS, float(every or SETTLE_SECONDS))
        watch = Watch(stored, settle_seconds=settle)
        self._store = store
        self._keeper = DirectoryKeeper(
            self._root, store, watch, self._report.reported, float(every or EVERY_SECONDS)
        )
        self._keeper.start()

    def tell(self) -> None:
        """Bring the report up to date."""
        if self._store is not None and self._keeper is not None:
            self._report.write(self._store.report(), self._store.kept, self._keeper.trouble)

    def finish(self, end: End) -> str | None:
        """The program has ended; returns what of its directory could not be stored, and why."""
        if self._keeper is None:
            self._warn_of_strays()
            return None
        if end.is_clean and not end.stopped:
            seconds = None
        else:
            seconds = STOP_SECONDS if end.stopped else FAILURE_SECONDS
        return self._keeper.finish(is_clean=end.is_clean, timeout_seconds=seconds)

    def loss(self, why: str) -> DirectoryLost:
        """What to end with instead of success."""
        return DirectoryLost(f"the program ended well, but its checkpoint directory is lost: {why}")

    def _warn_of_strays(self) -> None:
        if scan(self._root) != self._begun_with:
            self._say(
                f"{Env.CHECKPOINT_DIR}: what was written on node {self._run.node_index} is not "
                "kept; only the first node's directory is."
            )
