"""An S3 bucket as an object store.

boto3 clients are safe to share between threads; one is made per opened storage and its children
share it. Time-outs and retries are botocore's own ('standard' mode, jittered back-off).
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from random import Random
from typing import Any

import boto3
from botocore import utils
from botocore.config import Config
from botocore.exceptions import ProfileNotFound
from botocore.retries import standard

from trainyard_trainer.s3_errors import (
    ANSWERS,
    CLIENT_ERRORS,
    NO_KEYS,
    code_of,
    of_identity,
    translate,
)
from trainyard_trainer.s3_quick import QuickReader
from trainyard_trainer.s3_stream import S3Reader, S3Writer, Target, abort_upload
from trainyard_trainer.storage import (
    Entry,
    Health,
    Patience,
    Reader,
    Writer,
    check_key,
    join_key,
    probe,
)
from trainyard_trainer.storage_errors import (
    URI_FIELD,
    ObjectExists,
    ObjectMissing,
    ProfileMissing,
    RequestRefused,
    StorageUnreachable,
)

# botocore draws its pauses from Python's own generator, whose state belongs to the run: what a
# program draws next would depend on whether an upload behind it had to be tried again.
_JITTER = Random()
standard.ExponentialBackoff = partial(standard.ExponentialBackoff, random=_JITTER.random)
utils.random = _JITTER

DELETE_BATCH = 1000
"""As many keys as one DeleteObjects takes."""
CONFLICT_TRIES = 3
_MD5 = re.compile("[0-9a-f]{32}")
"""What the ETag of an object is that came in one piece, unless the server encrypts."""
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_CONNECTIONS = 16
_BRIEF = Patience(connect_seconds=2, silence_seconds=5, attempts=2)
"""For tidying up after a failure, which may be given up."""


@dataclass(frozen=True)
class S3Options:
    """How to reach a server."""

    endpoint: str | None
    """None: Amazon S3."""
    region: str | None
    compat: str
    patience: Patience
    field: str = URI_FIELD
    """Where the URI is written."""


class Connection:
    """Clients of one server, made when first needed."""

    def __init__(self, options: S3Options) -> None:
        self.options = options

    @cached_property
    def client(self) -> Any:
        """With the patience that was asked for."""
        return self._make(self.options.patience)

    @cached_property
    def quick(self) -> QuickReader:
        """For small objects."""
        return QuickReader(self.client, _CONNECTIONS)

    @cached_property
    def brief_client(self) -> Any:
        """With little patience."""
        return self._make(_BRIEF)

    def _make(self, patience: Patience) -> Any:
        options = self.options
        try:
            session = boto3.session.Session()
            return session.client(
                "s3",
                endpoint_url=options.endpoint,
                region_name=options.region or session.region_name or "us-east-1",
                config=_client_config(options, patience),
            )
        except ProfileNotFound as error:
            raise ProfileMissing(error.kwargs["profile"]) from error
        except NO_KEYS as error:
            raise of_identity(error) from error


def open_s3(bucket: str, prefix: str, options: S3Options) -> "S3Storage":
    """A storage with its own connection; nothing is contacted yet."""
    return S3Storage(Connection(options), bucket, prefix, Health())


def _client_config(options: S3Options, patience: Patience) -> Config:
    # boto3 >= 1.36 sends CRC32 with every write, which some compatible servers refuse.
    is_aws = options.compat == "aws"
    checksums = "when_supported" if is_aws else "when_required"
    s3: dict[str, Any] = {"addressing_style": "path" if options.endpoint else "auto"}
    if is_aws:
        # A signed CRC32 covers the body; over http botocore would sign its SHA-256, too.
        s3["payload_signing_enabled"] = False
    return Config(
        signature_version="s3v4",
        connect_timeout=patience.connect_seconds,
        read_timeout=patience.silence_seconds,
        retries={"mode": "standard", "total_max_attempts": patience.attempts},
        max_pool_connections=_CONNECTIONS,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        s3=s3,
        user_agent_extra="trainyard",
    )


class S3Storage:
    """Objects of one bucket below one prefix."""

    def __init__(self, connection: Connection, bucket: str, prefix: str, health: Health) -> None:
        self._connection, self._bucket, self._prefix = connection, bucket, prefix
        self._health, self._compat = health, connection.options.compat

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{join_key(self._bucket, self._prefix)}"

    @property
    def trouble(self) -> str | None:
        """What the server last failed at."""
        return self._health.trouble

    def uri_of(self, key: str) -> str:
        """`s3://bucket/prefix/key`."""
        return f"{self.uri}/{key}"

    def child(self, prefix: str) -> "S3Storage":
        """The same bucket and connection, a prefix deeper."""
        full = join_key(self._prefix, check_key(prefix))
        return S3Storage(self._connection, self._bucket, full, self._health)

    def read(self, key: str) -> bytes:
        """The whole object."""
        with self.open_reader(key) as reader:
            return reader.read()

    def read_small(self, key: str) -> bytes:
        """One GetObject, signed as a URL."""
        data = self._connection.quick.read(self._bucket, self._target(key).key)
        return self.read(key) if data is None else data

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """One PutObject; with `if_absent` a conditional one where the server has them."""
        if not if_absent:
            self._put(key, data)
        elif self._compat != "legacy":
            self._put_once(key, data)
        elif self.exists(key):
            self._accept_same(key, data)
        else:
            self._put(key, data)

    def _put(self, key: str, data: bytes) -> None:
        with self._errors("write", key):
            self._client.put_object(**self._target(key).names, Body=data)

    def _put_once(self, key: str, data: bytes) -> None:
        for _ in range(CONFLICT_TRIES):
            if self._put_if_free(key, data):
                return None
            # A retry after a lost answer meets its own write: the same bytes are no conflict. Where
            # nothing is there, another write got in the way and failed.
            with contextlib.suppress(ObjectMissing):
                return self._accept_same(key, data)
        raise StorageUnreachable(self._endpoint, "write", "conflicting writes")

    def _put_if_free(self, key: str, data: bytes) -> bool:
        with self._errors("write", key):
            try:
                self._client.put_object(**self._target(key).names, Body=data, IfNoneMatch="*")
            except ANSWERS as error:
                if code_of(error) not in _TAKEN:
                    raise
                return False
        return True

    def _accept_same(self, key: str, data: bytes) -> None:
        if self.read(key) != data:
            raise ObjectExists(self.uri_of(key))

    @contextlib.contextmanager
    def open_writer(self, key: str) -> Iterator[Writer]:
        """One put where the object is small, else a multipart upload in bounded memory."""
        with self._errors("write", key), S3Writer(self._target(key)) as writer:
            yield writer

    @contextlib.contextmanager
    def open_reader(self, key: str, offset: int = 0) -> Iterator[Reader]:
        """A ranged read that goes on where a broken connection left it."""
        with self._errors("read", key), S3Reader(self._target(key), offset) as reader:
            yield reader

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All pages of ListObjectsV2."""
        for page in self._pages("list_objects_v2", prefix):
            for found in page.get("Contents", ()):
                tag = found.get("ETag", "").strip('"')
                md5 = tag if _MD5.fullmatch(tag) else None
                key = self._relative(found["Key"])
                yield Entry(key, found["Size"], found["LastModified"], md5)

    def _pages(self, operation: str, prefix: str) -> Iterator[Any]:
        full = f"{self._prefix}/{prefix}" if self._prefix else prefix
        with self._errors("list", prefix):
            paginator = self._client.get_paginator(operation)
            yield from paginator.paginate(Bucket=self._bucket, Prefix=full)

    def _relative(self, key: str) -> str:
        return str(key[len(self._prefix) + 1 :] if self._prefix else key)

    def delete(self, keys: Iterable[str]) -> None:
        """Batches of DeleteObjects, which needs a checksum: elsewhere than on aws one by one."""
        full = [self._target(key).key for key in keys]
        with self._errors("delete", ""):
            if self._compat != "aws":
                for key in full:
                    self._client.delete_object(Bucket=self._bucket, Key=key)
                return
            for start in range(0, len(full), DELETE_BATCH):
                self._delete_batch(full[start : start + DELETE_BATCH])

    def _delete_batch(self, keys: Sequence[str]) -> None:
        objects = [{"Key": key} for key in keys]
        answer = self._client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
        )
        for failed in answer.get("Errors", ()):
            if failed.get("Code") not in ("NoSuchKey", "404"):
                raise ANSWERS({"Error": failed}, "DeleteObjects")

    def exists(self, key: str) -> bool:
        """One HeadObject."""
        try:
            with self._errors("read", key):
                self._client.head_object(**self._target(key).names)
        except ObjectMissing:
            return False
        return True

    def sweep(self, older_than_seconds: float) -> int:
        """Abort multipart uploads that nobody completed; none where the server cannot list them."""
        before, aborted = datetime.now(UTC) - timedelta(seconds=older_than_seconds), 0
        with contextlib.suppress(RequestRefused):
            for page in self._pages("list_multipart_uploads", ""):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < before:
                        target = Target(self._connection, self._bucket, upload["Key"])
                        aborted += abort_upload(target, upload["UploadId"])
        return aborted

    def check(self, *, write: bool = True) -> None:
        """List, and write and delete an object."""
        probe(self, write=write)

    @property
    def _client(self) -> Any:
        return self._connection.client

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)

    def _target(self, key: str) -> Target:
        full = join_key(self._prefix, check_key(key))
        checksums = self._compat == "aws"
        return Target(self._connection, self._bucket, full, part_checksums=checksums)

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except CLIENT_ERRORS as error:
            patience, field = self._connection.options.patience, self._connection.options.field
            uri = self.uri_of(key) if key else self.uri
            problem = translate(error, self._endpoint, uri, operation, patience, field)
            if not isinstance(problem, ObjectMissing):
                self._health.note(operation, problem)
            raise problem from error
        self._health.note(operation)
