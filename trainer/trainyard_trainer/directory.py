"""What lies in a program's checkpoint directory, and when it is quiet enough to be copied.

A program that knows nothing of Trainyard does not say when a checkpoint is whole. What nothing has
written to for some time is taken for whole, and a copy counts only if the directory still looked
the same after it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SETTLE_SECONDS = 10.0
"""How long nothing may have changed, unless spec.checkpoint.everySeconds is shorter."""
EVERY_SECONDS = 30.0
"""Between two copies, where spec.checkpoint.everySeconds says nothing."""


@dataclass(frozen=True)
class Seen:
    """One file at one moment."""

    size_bytes: int
    modified_ns: int
    inode: int
    changed_ns: int


Listing = Mapping[str, Seen]
"""Files by their path, relative to the directory, with '/'."""


def scan(root: Path) -> dict[str, Seen]:
    """All regular files below `root`; links are not followed, and not kept."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # It was renamed or deleted meanwhile, and the next look tells.
            if path.is_file() and not path.is_symlink():
                found[path.relative_to(root).as_posix()] = Seen(
                    status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns
                )
    return found


class Watch:
    """Looks at a directory again and again. Pure: listings and times are given."""

    def __init__(self, listing: Listing, now: float, *, settle_seconds: float) -> None:
        """listing: what is known to be in storage."""
        self._stored = self._newest = dict(listing)
        self._changed_at = now
        self._settle_seconds = settle_seconds
        self.step: int | None = None
        """What the program had reported when the directory last changed."""

    def look(self, listing: Listing, now: float, step: int | None) -> bool:
        """Whether there is something new, and it has been quiet for long enough."""
        if listing != self._newest:
            self._newest, self._changed_at, self.step = dict(listing), now, step
        is_quiet = now - self._changed_at >= self._settle_seconds
        return is_quiet and self.is_new(listing)

    def is_new(self, listing: Listing) -> bool:
        """Whether storage has not got it yet."""
        return bool(listing) and listing != self._stored

    def keep(self, listing: Listing) -> None:
        """That is in storage now."""
        self._stored = dict(listing)
