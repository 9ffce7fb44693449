"""A directory as an object store: temporary name, fsync, rename, fsync of the directory."""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from trainyard_trainer.storage import Entry, Health, Reader, Writer, check_key, probe
from trainyard_trainer.storage_errors import (
    AccessRefused,
    ObjectExists,
    ObjectMissing,
    StorageError,
    StorageFull,
    StorageUnreachable,
)

TEMPORARY_SUFFIX = ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class FileStorage:
    """Objects are files below `root`; it is created by the first write."""

    def __init__(self, root: Path, health: Health | None = None) -> None:
        self._root, self._health = root, health or Health()

    @property
    def uri(self) -> str:
        """The URI of the directory."""
        return self._root.absolute().as_uri()

    @property
    def trouble(self) -> str | None:
        """What the file system last failed at."""
        return self._health.trouble

    def uri_of(self, key: str) -> str:
        """The URI of one file."""
        return self._path(key).absolute().as_uri()

    def child(self, prefix: str) -> "FileStorage":
        """The same store, a directory deeper."""
        return FileStorage(self._path(prefix), self._health)

    def read(self, key: str) -> bytes:
        """The whole file."""
        with self._errors("read", key):
            return self._path(key).read_bytes()

    def read_small(self, key: str) -> bytes:
        """The whole file."""
        return self.read(key)

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Replace the file in one step."""
        with self._errors("write", key), _FileWriter(self._path(key), if_absent) as writer:
            writer.write(data)
        if writer.refused and self.read(key) != data:
            raise ObjectExists(self.uri_of(key))

    @contextlib.contextmanager
    def open_writer(self, key: str) -> Iterator[Writer]:
        """A file under a temporary name, renamed when the block ends well."""
        with self._errors("write", key), _FileWriter(self._path(key), False) as writer:
            yield writer

    def open_reader(self, key: str, offset: int = 0) -> AbstractContextManager[Reader]:
        """The open file, from byte `offset`."""
        with self._errors("read", key):
            file = self._path(key).open("rb")
            file.seek(offset)
            return file

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Walk the directory that `prefix` names, temporary files left out."""
        start = self._root / prefix.rpartition("/")[0]
        with self._errors("list", prefix):
            paths = sorted(_walk(start), key=lambda path: path.relative_to(self._root).as_posix())
        for path in paths:
            key = path.relative_to(self._root).as_posix()
            if key.startswith(prefix) and (entry := _entry(key, path)):
                yield entry

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink files, then their directories where these are left empty."""
        for key in keys:
            path = self._path(key)
            with self._errors("delete", key):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                if path.parent != self._root:
                    path.parent.rmdir()

    def exists(self, key: str) -> bool:
        """Whether the file is there."""
        with self._errors("read", key):
            return self._path(key).is_file()

    def sweep(self, older_than_seconds: float) -> int:
        """Unlink temporary files that no writer renamed."""
        before, removed = time.time() - older_than_seconds, 0
        with self._errors("list", ""):
            for path in _walk(self._root, temporary=True):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        removed += 1
        return removed

    def check(self, *, write: bool = True) -> None:
        """List, and write and delete a file."""
        probe(self, write=write)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ObjectMissing((self._root / key).absolute().as_uri()) from error
        except OSError as error:
            problem = self._translate(error, operation)
            self._health.note(operation, problem)
            raise problem from error
        self._health.note(operation)

    def _translate(self, error: OSError, operation: str) -> StorageError:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if error.errno in _FULL:
            return StorageFull(self.uri)
        if error.errno in _REFUSED:
            return AccessRefused(self.uri, operation, reason)
        return StorageUnreachable(self.uri, operation, reason)


def _walk(start: Path, *, temporary: bool = False) -> Iterator[Path]:
    for folder, _, names in os.walk(start, onerror=_raise_unless_gone):
        for name in names:
            if temporary == (name.startswith(".") and name.endswith(TEMPORARY_SUFFIX)):
                yield Path(folder) / name


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _entry(key: str, path: Path) -> Entry | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Entry(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


class _FileWriter:
    def __init__(self, path: Path, if_absent: bool) -> None:
        self._path, self._if_absent = path, if_absent
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.sha256 = ""
        self.refused = False
        """Whether `if_absent` found the file there."""

    def __enter__(self) -> "_FileWriter":
        self._temporary = self._path.with_name(
            f".{self._path.name}.{uuid4().hex}{TEMPORARY_SUFFIX}"
        )
        self._file = _create(self._temporary)
        return self

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self._file.write(data)
        self._hash.update(data)
        size = memoryview(data).nbytes
        self.size_bytes += size
        return size

    def flush(self) -> None:
        """Nothing to do: closing syncs."""

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()  # Over a network, this too may say that the disk is full.
                self._publish()
                self.sha256 = self._hash.hexdigest()
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _publish(self) -> None:
        if self._if_absent:
            try:
                os.link(self._temporary, self._path)
            except FileExistsError:
                self.refused = True
        else:
            self._temporary.replace(self._path)
        _sync_directory(self._path.parent)


def _create(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except FileNotFoundError:
        _make_directory(path.parent)
        return path.open("xb")


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(exist_ok=True)
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
