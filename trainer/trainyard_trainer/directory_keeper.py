"""Keeps a program's checkpoint directory in storage, from a thread of its own."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from trainyard_operator.contract import Env
from trainyard_trainer.directory import Due, Watch, scan
from trainyard_trainer.directory_store import DirectoryStore, Reported
from trainyard_trainer.errors import TrainyardError

LOOK_SECONDS = 1.0
RETRY_SECONDS = 15.0
LAST_PAUSES = (1.0, 5.0, 15.0)
"""Before the last copy of all is tried again."""

Say = Callable[[str], None]


class DirectoryKeeper:
    """Looks every second; copies what is new and quiet, at most so often."""

    def __init__(
        self,
        root: Path,
        store: DirectoryStore,
        watch: Watch,
        reported: Callable[[], Reported],
        every_seconds: float,
    ) -> None:
        self._root, self._store, self._watch = root, store, watch
        self._reported, self._every_seconds = reported, every_seconds
        self._next_at = 0.0
        self._over = threading.Event()
        self._is_last_due: bool | None = None
        self.retry_pauses: tuple[float, ...] = LAST_PAUSES
        self._unread: str | None = None
        self._unsaved: str | None = None
        self._thread = threading.Thread(target=self._run, name="directory", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why the last look or copy failed; None once one worked."""
        return self._unread or self._unsaved

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def finish(self, *, is_clean: bool, timeout_seconds: float | None) -> str | None:
        """The program has ended: copy what it left; returns why that failed, in a sentence.

        is_clean: all of it is meant. Else only what had been quiet for long enough: the program
        may have died while it wrote.
        """
        self._is_last_due = is_clean
        self._over.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            return f"the checkpoint directory was not stored within {timeout_seconds:.0f} s"
        return self.trouble

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            now = time.monotonic()
            if self._look(now) and now >= self._next_at and (due := self._watch.due(now)):
                waits = self._every_seconds if self._save(due) else RETRY_SECONDS
                self._next_at = now + waits
        now = time.monotonic()
        if not self._look(now):
            return
        if due := self._watch.all_due() if self._is_last_due else self._watch.due(now):
            self._save_last(due)

    def _look(self, now: float) -> bool:
        """Whether all of the directory can be read."""
        try:
            self._watch.look(scan(self._root), now, self._reported().step)
        except OSError as error:
            self._unread = f"{Env.CHECKPOINT_DIR} cannot be read: {error}"
            return False
        self._unread = None
        return True

    def _save_last(self, due: Due) -> None:
        """Nothing writes any more; storage that is away is asked a few times."""
        for pause in (*self.retry_pauses, None):
            if self._save(due) or pause is None:
                return
            time.sleep(pause)

    def _save(self, due: Due) -> bool:
        reported = self._reported()
        label = Reported(due.step, reported.epoch, reported.metrics)
        try:
            saved = self._store.save(self._root, due.listing, label, due.units)
        except (TrainyardError, OSError) as error:
            self._unsaved = str(error)
            return False
        if saved is not None:
            self._watch.keep(due.listing)
            self._unsaved = None
        return True
