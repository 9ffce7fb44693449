"""Small objects on their way to storage: in their order, each until it is stored."""

import contextlib
import logging
import threading
from collections import deque
from dataclasses import dataclass

from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.storage import Storage

WAITING_BYTES = 64 * 2**20
"""What may wait for a storage that is away, beside the newest piece; beyond it the oldest are
given up."""
log = logging.getLogger("trainyard")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An object to write, and those that are of no use once it is stored."""

    key: str
    data: bytes
    replaces: tuple[str, ...] = ()


class Outbox:
    """Takes from any thread; one thread sends."""

    def __init__(self, storage: Storage, most_bytes: int = WAITING_BYTES) -> None:
        self._storage, self._most_bytes = storage, most_bytes
        self._waiting: deque[Piece] = deque()
        self._lock = threading.Lock()
        self.lost = 0
        """How many were given up for want of memory."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, piece: Piece | None) -> None:
        """Queue an object, unless there is none; returns at once."""
        if piece is None:
            return
        with self._lock:
            self._waiting.append(piece)
            # A large piece must not push out all that came before it.
            while self._size() - len(piece.data) > self._most_bytes:
                self._waiting.popleft()
                self.lost += 1

    def send(self) -> None:
        """Write all that waits. Raises TrainyardError; the rest then waits on.

        What has no name that storage takes is given up with a warning.
        """
        while self._waiting:
            piece = self._waiting[0]
            try:
                self._storage.write(piece.key, piece.data)
            except ValueError as error:  # A name that no storage has: it will not do better later.
                log.warning("'%s' cannot be stored: %s", piece.key, error)
            if piece.replaces:
                with contextlib.suppress(TrainyardError):  # What stays does no harm.
                    self._storage.delete(piece.replaces)
            with self._lock:
                if self._waiting and self._waiting[0] is piece:
                    self._waiting.popleft()

    def clear(self) -> None:
        """Nothing that waits is wanted any more."""
        with self._lock:
            self._waiting.clear()

    def _size(self) -> int:
        return sum(len(piece.data) for piece in self._waiting)
