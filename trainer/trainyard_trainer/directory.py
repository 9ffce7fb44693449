"""What lies in a program's checkpoint directory, and when it is quiet enough to be copied.

A program that knows nothing of Trainyard does not say when a checkpoint is whole. A folder that
nothing has written to for some time is taken for whole, and a copy counts only if it still looked
the same after it. One that is written to all the time, such as for curves, holds up no other.
"""

import os
from collections.abc import Collection, Mapping
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
    """All regular files below `root`; links are not followed, and not kept.

    Raises OSError for a folder that may not be read: what is in it would be lost in silence.
    """
    found = {}
    for folder, _, names in os.walk(root, onerror=_raise_unless_gone):
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


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


ROOT_UNIT = ""


def unit_of(path: str) -> str:
    """What is quiet or busy as a whole: a folder of the directory, or all files beside them."""
    return path.partition("/")[0] if "/" in path else ROOT_UNIT


def part_of(listing: Listing, units: Collection[str]) -> dict[str, Seen]:
    """Only the files of these units."""
    return {path: seen for path, seen in listing.items() if unit_of(path) in units}


@dataclass(frozen=True)
class Due:
    """What to copy now."""

    listing: Listing
    """Quiet units as they are, busy ones as storage has them."""
    units: frozenset[str]
    """The quiet ones."""
    step: int | None
    """What the program had reported when one of them last changed."""


class Watch:
    """Looks at a directory again and again. Pure: listings and times are given."""

    def __init__(self, listing: Listing, *, settle_seconds: float) -> None:
        """listing: what is known to be in storage."""
        self._stored = self._newest = dict(listing)
        self._settle_seconds = settle_seconds
        self._changed: dict[str, tuple[float, int | None]] = {}
        """When each unit last changed, and what step had been reported by then."""

    def look(self, listing: Listing, now: float, step: int | None) -> None:
        """Take in how it is now."""
        for unit in {unit_of(path) for path in (*listing, *self._newest)}:
            if part_of(listing, {unit}) != part_of(self._newest, {unit}):
                self._changed[unit] = now, step
        self._newest = dict(listing)

    def due(self, now: float) -> Due | None:
        """What has been quiet for long enough, if there is anything new in it."""
        units = {unit_of(path) for path in (*self._newest, *self._stored)}
        return self._due(frozenset(unit for unit in units if self._is_quiet(unit, now)))

    def all_due(self) -> Due | None:
        """Everything, if there is anything new."""
        return self._due(frozenset(unit_of(path) for path in (*self._newest, *self._stored)))

    def keep(self, listing: Listing) -> None:
        """That is in storage now."""
        self._stored = dict(listing)

    def _due(self, units: frozenset[str]) -> Due | None:
        busy = {unit_of(path) for path in self._stored} - units
        listing = part_of(self._newest, units) | part_of(self._stored, busy)
        if not listing or listing == self._stored:
            return None
        steps = [step for unit, (_, step) in self._changed.items() if unit in units]
        return Due(listing, units, max((s for s in steps if s is not None), default=None))

    def _is_quiet(self, unit: str, now: float) -> bool:
        changed = self._changed.get(unit)
        return changed is None or now - changed[0] >= self._settle_seconds
