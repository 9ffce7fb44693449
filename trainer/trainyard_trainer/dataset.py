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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from trainyard_trainer.context import StorageLocation
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.storage import READ_CHUNK_BYTES, Entry, Storage, check_key
from trainyard_trainer.storage_errors import (
    BucketMissing,
    StorageError,
    StorageUriInvalid,
)

MARKER = ".trainyard-dataset.json"
LOCK = ".trainyard-dataset.lock"
CONNECTIONS = 8

Say = Callable[[str], None]


class DatasetIncomplete(StorageError):
    """An object was shorter or longer than its listing said."""

    def __init__(self, uri: str, size_bytes: int, expected_bytes: int) -> None:
        self.uri, self.size_bytes, self.expected_bytes = uri, size_bytes, expected_bytes
        super().__init__(
            f"spec.dataset.uri: '{uri}' has {size_bytes} bytes, its listing says "
            f"{expected_bytes}; is somebody still writing it?"
        )


@dataclass(frozen=True)
class Copied:
    """What `copy_dataset` did."""

    files: int
    size_bytes: int
    """Of all files, fetched or found."""
    fetched: int


def bring_dataset(
    uri: str | None, path: str | None, location: StorageLocation, say: Say
) -> str | None:
    """Where the data set lies, copied there if need be; None where the job names none.

    location: whose endpoint and region an s3:// URI shares. Raises ConfigurationError.
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
    copied = copy_dataset(_open(uri, location), uri, Path(path))
    seconds = time.monotonic() - began
    say(
        f"dataset: {copied.files} files, {_size(copied.size_bytes)} at {path}, "
        f"{copied.fetched} fetched in {seconds:.1f} s"
    )
    return path


def copy_dataset(source: Storage, uri: str, target: Path) -> Copied:
    """Make `target` hold every object of `source`, one process at a time."""
    with _bucket_of_dataset():
        entries = [entry for entry in source.list() if not _is_folder(entry)]
    if not entries:
        raise ConfigurationError(
            f"spec.dataset.uri: nothing lies under '{uri}'; upload the data there, or correct "
            "the URI."
        )
    size_bytes = sum(entry.size_bytes for entry in entries)
    marker = json.dumps({"uri": uri, "files": len(entries), "sha256": _digest(entries)})
    if _read(target / MARKER) == marker:  # Perhaps on a read-only volume.
        return Copied(len(entries), size_bytes, 0)
    with _writable(target), _locked(target):
        missing = [entry for entry in entries if not _is_there(entry, target)]
        _fetch(source, missing, target)
        (target / MARKER).write_text(marker)
    return Copied(len(entries), size_bytes, len(missing))


def _fetch(source: Storage, entries: list[Entry], target: Path) -> None:
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(CONNECTIONS, "dataset")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for done in [pool.submit(_fetch_one, source, entry, target) for entry in entries]:
            done.result()


def _fetch_one(source: Storage, entry: Entry, target: Path) -> None:
    path = _path(entry, target)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    size_bytes = 0
    try:
        with source.open_reader(entry.key) as reader, temporary.open("xb") as file:
            while chunk := reader.read(READ_CHUNK_BYTES):
                size_bytes += file.write(chunk)
        if size_bytes != entry.size_bytes:
            raise DatasetIncomplete(source.uri_of(entry.key), size_bytes, entry.size_bytes)
        modified = entry.modified.timestamp()
        os.utime(temporary, (modified, modified))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_there(entry: Entry, target: Path) -> bool:
    try:
        status = _path(entry, target).stat()
    except OSError:
        return False
    same_time = abs(status.st_mtime - entry.modified.timestamp()) < 0.001
    return status.st_size == entry.size_bytes and same_time


def _path(entry: Entry, target: Path) -> Path:
    """Where an object goes. Raises ConfigurationError for a key that is no relative path."""
    try:
        return target / check_key(entry.key)
    except ValueError:
        raise ConfigurationError(
            f"spec.dataset.uri: the key '{entry.key}' cannot be a file's path; rename the object."
        ) from None


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


@contextlib.contextmanager
def _bucket_of_dataset() -> Iterator[None]:
    """Say `spec.dataset.uri` where the storage would name its own field."""
    try:
        yield
    except BucketMissing as error:
        raise ConfigurationError(
            f"spec.dataset.uri: {error.endpoint} has no bucket '{error.bucket}'; create it, or "
            "correct the URI."
        ) from error


def _open(uri: str, location: StorageLocation) -> Storage:
    try:
        return location.open(uri)
    except StorageUriInvalid:
        raise ConfigurationError(
            f"spec.dataset.uri: cannot read '{uri}'; write s3://<bucket>/<prefix> or "
            "file:///<directory>."
        ) from None


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
