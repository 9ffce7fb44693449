"""One protocol for an object store: `s3://bucket/prefix` and `file:///directory`.

Credentials come from the standard AWS provider chain (environment, files, pod identity), never
from an argument. boto3 is imported by `s3.py` only, and `s3.py` only once an s3:// URI is opened.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, get_args
from urllib.parse import unquote, urlsplit

from trainyard_operator.contract import S3Dialect
from trainyard_trainer.storage_errors import URI_FIELD, StorageCompatInvalid, StorageUriInvalid

READ_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one request may take before storage counts as away.

    A server that takes connections and never answers costs the product, two minutes, and some
    seconds of pauses between the tries.
    """

    connect_seconds: float = 5.0
    silence_seconds: float = 30.0
    """Without a byte sent or received."""
    attempts: int = 4
    """Of each request, with growing pauses in between."""


class Health:
    """What storage last failed at. A storage and its children share one."""

    def __init__(self) -> None:
        self._failed: tuple[str, str] | None = None

    @property
    def trouble(self) -> str | None:
        """One sentence; None while all is well."""
        return self._failed[1] if self._failed else None

    def note(self, operation: str, error: Exception | None = None) -> None:
        """How an operation ended; a good read does not say that a full bucket has space again."""
        if error is not None:
            self._failed = (operation, str(error))
        elif self._failed and operation in ("write", self._failed[0]):
            self._failed = None


@dataclass(frozen=True)
class Entry:
    """One object of a listing."""

    key: str
    """Relative to the storage that listed it."""
    size_bytes: int
    modified: datetime
    md5: str | None = None
    """Of the content, where the server says what may be it."""


class Writer(Protocol):
    """A binary sink that cannot seek. The object appears whole when it is closed, or not at all."""

    size_bytes: int
    """Bytes taken so far; final after the `with` block."""
    sha256: str
    """Hexadecimal digest of the whole object; set after the `with` block."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take all of `data`; returns its length."""

    def flush(self) -> None:
        """Do nothing; writers of archives call it."""


class Reader(Protocol):
    """A binary source, read once from front to back."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, all of them where negative; empty at the end."""


class Storage(Protocol):
    """Objects below one prefix. Keys are relative to it and use '/'."""

    @property
    def uri(self) -> str:
        """The URI of the prefix, without a trailing slash."""

    @property
    def trouble(self) -> str | None:
        """What storage last failed at, as one sentence; None once it does that, or a write."""

    def uri_of(self, key: str) -> str:
        """The full URI of one object."""

    def child(self, prefix: str) -> "Storage":
        """The same store, a prefix deeper."""

    def read(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissing."""

    def read_small(self, key: str) -> bytes:
        """The same for one of many small objects, with as little ado as can be."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Replace the object in one step.

        if_absent: raise ObjectExists where it holds other bytes; the same bytes are no error.
        """

    def open_writer(self, key: str) -> AbstractContextManager[Writer]:
        """A streaming write with bounded memory; leaving by an exception leaves no object."""

    def open_reader(self, key: str, offset: int = 0) -> AbstractContextManager[Reader]:
        """A streaming read from byte `offset`. Raises ObjectMissing."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key starts with `prefix`, in the order of their keys."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; an absent one is no error."""

    def exists(self, key: str) -> bool:
        """Whether the object is there."""

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what writers that died have left, invisible and paid for; returns how much.

        older_than_seconds: longer than any upload takes; younger ones may be under way.
        """

    def check(self, *, write: bool = True) -> None:
        """Start-up probe: list, and write and delete an object; raises what a person must fix."""


def open_storage(
    uri: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    compat: str | None = None,
    patience: Patience | None = None,
    field: str = URI_FIELD,
) -> Storage:
    """Open `s3://bucket[/prefix]` or `file:///directory`; nothing is contacted yet.

    endpoint: the S3 server's URL, None for AWS. compat: None is aws; `dialect.find_dialect` finds
    out. field: where the URI is written, for errors.
    Raises StorageUriInvalid, StorageCompatInvalid.
    """
    compat = compat or "aws"
    parts = urlsplit(uri)
    if compat not in get_args(S3Dialect):
        raise StorageCompatInvalid(compat, get_args(S3Dialect))
    if parts.query or parts.fragment:
        raise StorageUriInvalid(uri, field)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        from trainyard_trainer.files import FileStorage

        return FileStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from trainyard_trainer.s3 import S3Options, open_s3

        options = S3Options(endpoint, region, compat, patience or Patience(), field)
        return open_s3(parts.netloc, parts.path.strip("/"), options)
    raise StorageUriInvalid(uri, field)


def check_key(key: str) -> str:
    """Refuse keys that would leave their prefix. Raises ValueError."""
    if key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"not a storage key: {key!r}")
    return key


def join_key(prefix: str, key: str) -> str:
    """`prefix/key`, where either may be empty."""
    return "/".join(part for part in (prefix.strip("/"), key) if part)


def probe(storage: Storage, *, write: bool) -> None:
    """What every `Storage.check` does: list, write, read back, delete."""
    from uuid import uuid4

    next(iter(storage.list(".probe/")), None)
    if write:
        key = f".probe/{uuid4().hex}"
        storage.write(key, b"trainyard")
        storage.read(key)
        storage.delete([key])
