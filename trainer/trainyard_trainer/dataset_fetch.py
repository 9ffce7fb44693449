"""Fetches the objects of a data set in parallel; none that differs from its listing is believed."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.storage import READ_CHUNK_BYTES, Entry, Storage, check_key
from trainyard_trainer.storage_errors import StorageError

CONNECTIONS = 8
SMALL_BYTES = 2**20
"""Up to here an object is read at once."""


class DatasetIncomplete(StorageError):
    """An object was shorter or longer than its listing said."""

    def __init__(self, uri: str, size_bytes: int, expected_bytes: int) -> None:
        self.uri, self.size_bytes, self.expected_bytes = uri, size_bytes, expected_bytes
        super().__init__(
            f"spec.dataset.uri: '{uri}' has {size_bytes} bytes, its listing says "
            f"{expected_bytes}; is somebody still writing it?"
        )


class DatasetAltered(StorageError):
    """An object came twice, and differently."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(
            f"spec.dataset.uri: '{uri}' differs from its ETag, in two ways; check the network, "
            "or upload it again."
        )


class Fetcher:
    """Of one data set; used by several threads."""

    def __init__(self, source: Storage, target: Path) -> None:
        self._source, self._target = source, target
        self._token = uuid4().hex
        self._folders: set[Path] = set()
        self._tags_are_digests = True
        """False once an ETag was found to be something else, as where the server encrypts."""

    def fetch(self, entries: list[Entry]) -> None:
        """All of them."""
        with contextlib.ExitStack() as stack:
            pool = ThreadPoolExecutor(CONNECTIONS, "dataset")
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            for done in [pool.submit(self.fetch_one, entry) for entry in entries]:
                done.result()

    def fetch_one(self, entry: Entry) -> None:
        """One file, under its name only once it is whole and right."""
        path = path_of(entry, self._target)
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        temporary = path.with_name(f".{path.name}.{self._token}.partial")
        try:
            self.copy(entry, temporary)
            modified = entry.modified.timestamp()
            os.utime(temporary, (modified, modified))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def copy(self, entry: Entry, path: Path) -> None:
        """The content of an object, verified. Raises DatasetIncomplete, DatasetAltered."""
        digest = self._copy_once(entry, path)
        if not self._tags_are_digests or entry.md5 in (None, digest):
            return
        if self._copy_once(entry, path) != digest:
            raise DatasetAltered(self._source.uri_of(entry.key))
        self._tags_are_digests = False  # The same twice: it is the ETag that is no digest.

    def _copy_once(self, entry: Entry, path: Path) -> str:
        """The MD5 of what came."""
        digest, size_bytes = hashlib.md5(usedforsecurity=False), 0
        with path.open("wb") as file:
            for chunk in self._chunks(entry):
                digest.update(chunk)
                size_bytes += file.write(chunk)
        if size_bytes != entry.size_bytes:
            raise DatasetIncomplete(self._source.uri_of(entry.key), size_bytes, entry.size_bytes)
        return digest.hexdigest()

    def _chunks(self, entry: Entry) -> Iterator[bytes]:
        if entry.size_bytes <= SMALL_BYTES:
            yield self._source.read_small(entry.key)
            return
        with self._source.open_reader(entry.key) as reader:
            yield from iter(lambda: reader.read(READ_CHUNK_BYTES), b"")


def path_of(entry: Entry, target: Path) -> Path:
    """Where an object goes. Raises ConfigurationError for a key that is no relative path."""
    try:
        return target / check_key(entry.key)
    except ValueError:
        raise ConfigurationError(
            f"spec.dataset.uri: the key '{entry.key}' cannot be a file's path; rename the object."
        ) from None
