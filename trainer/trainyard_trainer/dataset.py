"""Bring spec.dataset to where the recipe reads it.

Files are copied in parallel under temporary names. Each keeps the time of its object, so that a
file that is there already, from another process or a former attempt, is not fetched again; and a
marker, written last, says that a volume holds all of a listing.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trainyard_trainer import dataset_cache
from trainyard_trainer.context import StorageLocation
from trainyard_trainer.dataset_archive import is_archive, unpack
from trainyard_trainer.dataset_fetch import Fetcher, path_of
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.storage import Entry, Storage
from trainyard_trainer.storage_errors import DATASET_FIELD, StorageUriInvalid

MARKER = ".trainyard-dataset.json"
LOCK = ".trainyard-dataset.lock"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Copied:
    """What `copy_dataset` did."""

    files: int
    size_bytes: int
    """Of all files, fetched or found."""
    fetched: int


def bring_dataset(
    uri: str | None,
    path: str | None,
    location: StorageLocation,
    say: Say,
    cache: Path | None = None,
) -> str | None:
    """Where the data set lies, copied there if need be; None where the job names none.

    location: whose endpoint and region an s3:// URI shares. cache: volume that keeps data sets; at
    `path` there are links into it then. Raises ConfigurationError, or what storage raises.
    """
    if uri is None:
        if path is not None and not Path(path).exists():
            raise ConfigurationError(
                f"spec.dataset: nothing lies at '{path}'; mount the data there, or set "
                "spec.dataset.uri."
            )
        return path
    if path is None or uri == Path(path).absolute().as_uri():
        return _local_path(uri)
    began = time.monotonic()
    wanted = look_up(_open(uri, location), uri)
    place = _take_place(cache, wanted, say) if cache else Path(path)
    copied = copy_dataset(wanted, place)
    if cache:
        with _writable(Path(path)):
            dataset_cache.link_into(place, Path(path))
    seconds = time.monotonic() - began
    say(
        f"dataset: {copied.files} files, {_size(copied.size_bytes)} at {place}, "
        f"{copied.fetched} fetched in {seconds:.1f} s"
    )
    return str(place)


@dataclass(frozen=True)
class Wanted:
    """A data set as its listing shows it."""

    uri: str
    source: Storage
    entries: list[Entry]
    """Of an archive, the archive alone."""

    @property
    def size_bytes(self) -> int:
        """Of all objects."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def digest(self) -> str:
        """Of the listing."""
        return _digest(self.entries)

    @property
    def is_archive(self) -> bool:
        """Whether it is to be unpacked."""
        return is_archive(self.uri)


def look_up(source: Storage, uri: str) -> Wanted:
    """List a data set. source: at `uri`, or where that is an archive, at its parent."""
    name = uri.rstrip("/").rpartition("/")[2] if is_archive(uri) else ""
    entries = [entry for entry in source.list(name) if not _is_folder(entry)]
    if name:
        entries = [entry for entry in entries if entry.key == name]
    if not entries:
        raise ConfigurationError(
            f"spec.dataset.uri: nothing lies under '{uri}'; upload the data there, or correct "
            "the URI."
        )
    return Wanted(uri, source, entries)


def copy_dataset(wanted: Wanted, target: Path) -> Copied:
    """Make `target` hold all of it, one process at a time."""
    entries = wanted.entries
    marker = json.dumps({"uri": wanted.uri, "files": len(entries), "sha256": wanted.digest})
    if _read(target / MARKER) == marker:  # Perhaps on a read-only volume.
        return Copied(len(entries), wanted.size_bytes, 0)
    with _writable(target), _locked(target):
        fetcher = Fetcher(wanted.source, target)
        if _read(target / MARKER) == marker:
            missing: list[Entry] = []
        elif wanted.is_archive:
            missing = entries
            unpack(fetcher, entries[0], target)
        else:
            missing = [entry for entry in entries if not _is_there(entry, target)]
            fetcher.fetch(missing)
        (target / MARKER).write_text(marker)
    return Copied(len(entries), wanted.size_bytes, len(missing))


def _take_place(cache: Path, wanted: Wanted, say: Say) -> Path:
    """Where it lies in the cache, with room for it; nobody removes it while this process lives."""
    place = dataset_cache.place_of(cache, wanted.uri, wanted.digest)
    with _writable(cache):
        dataset_cache.hold(place)
        if not (place / MARKER).exists():
            growth = 2 if wanted.is_archive else 1  # The archive, and what is in it.
            if removed := dataset_cache.make_room(cache, growth * wanted.size_bytes):
                say(f"dataset: {removed} data sets that nobody uses left the cache")
    return place


def _is_there(entry: Entry, target: Path) -> bool:
    try:
        status = path_of(entry, target).stat()
    except OSError:
        return False
    same_time = abs(status.st_mtime - entry.modified.timestamp()) < 0.001
    return status.st_size == entry.size_bytes and same_time


def _is_folder(entry: Entry) -> bool:
    """Some tools write an empty object for each folder."""
    return entry.key.endswith("/") or entry.key in ("", MARKER, LOCK)


def _digest(entries: list[Entry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.key}\0{entry.size_bytes}\0{entry.modified.timestamp():.3f}\n"
        digest.update(line.encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time, where the file system has locks; without, all copy the same."""
    target.mkdir(parents=True, exist_ok=True)
    with (target / LOCK).open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise ConfigurationError(
            f"spec.dataset: cannot write to '{target}' ({reason}); use a volume that is writable "
            "and large enough, or drop spec.dataset.uri where it holds the data already."
        ) from error


def _open(uri: str, location: StorageLocation) -> Storage:
    """Where a data set lies; of an archive, the folder that it lies in."""
    folder = uri.rstrip("/").rpartition("/")[0] if is_archive(uri) else uri
    try:
        return location.open(folder, field=DATASET_FIELD)
    except StorageUriInvalid:
        raise StorageUriInvalid(uri, DATASET_FIELD) from None  # All of it, not the folder alone.


def _local_path(uri: str) -> str:
    """The folder that a file:// URI names, used where it lies."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ConfigurationError(
            f"spec.dataset.mountPath: is required for '{uri}'; set a folder to copy it to."
        )
    path = Path(unquote(parts.path))
    if not path.exists() or (path.is_dir() and next(path.iterdir(), None) is None):
        raise ConfigurationError(
            f"spec.dataset.uri: nothing lies under '{uri}'; put the data there, or correct the URI."
        )
    return str(path)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
