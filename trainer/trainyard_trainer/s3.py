"""An S3 bucket as an object store; the one module that imports boto3.

boto3 clients are safe to share between threads; one is made per opened storage and its children
share it. Time-outs and retries are botocore's own ('standard' mode, jittered back-off).
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from trainyard_trainer.s3_stream import S3Reader, S3Writer, Target
from trainyard_trainer.storage import Entry, Reader, Writer, check_key, join_key, probe
from trainyard_trainer.storage_errors import (
    AccessRefused,
    BucketMissing,
    ObjectExists,
    ObjectMissing,
    RegionWrong,
    StorageFull,
    StorageUnreachable,
)

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
ATTEMPTS = 5
DELETE_BATCH = 1000
"""As many keys as one DeleteObjects takes."""

_REFUSED = {
    "AccessDenied": "access denied",
    "403": "access denied",
    "Forbidden": "access denied",
    "InvalidAccessKeyId": "unknown access key",
    "XAdminUserNotFound": "unknown access key",  # versitygw's own code
    "SignatureDoesNotMatch": "wrong secret key",
    "ExpiredToken": "expired token",
    "InvalidToken": "invalid token",
    "AllAccessDisabled": "access disabled",
    "AccountProblem": "account problem",
    "RequestTimeTooSkewed": "clock differs from the server's",
}
_WRONG_REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocation"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_TRANSIENT = (boto.HTTPClientError, boto.IncompleteReadError, OSError)
"""What a read may meet half-way and go on after."""
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


def open_s3(
    bucket: str, prefix: str, *, endpoint: str | None, region: str | None, compat: str
) -> "S3Storage":
    """A storage with its own client; nothing is contacted yet."""
    session = boto3.session.Session()
    region = region or session.region_name or ("us-east-1" if endpoint else None)
    client = session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or "us-east-1",
        config=_client_config(compat, path_style=endpoint is not None),
    )
    return S3Storage(client, bucket, prefix, compat)


def _client_config(compat: str, *, path_style: bool) -> Config:
    # boto3 >= 1.36 sends CRC32 with every write, which some compatible servers refuse.
    checksums = "when_supported" if compat == "aws" else "when_required"
    return Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=16,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        s3={"addressing_style": "path" if path_style else "auto"},
        user_agent_extra="trainyard",
    )


class S3Storage:
    """Objects of one bucket below one prefix."""

    def __init__(self, client: Any, bucket: str, prefix: str, compat: str) -> None:
        self._client, self._bucket, self._prefix, self._compat = client, bucket, prefix, compat

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{join_key(self._bucket, self._prefix)}"

    def uri_of(self, key: str) -> str:
        """`s3://bucket/prefix/key`."""
        return f"{self.uri}/{key}"

    def child(self, prefix: str) -> "S3Storage":
        """The same bucket and client, a prefix deeper."""
        full = join_key(self._prefix, check_key(prefix))
        return S3Storage(self._client, self._bucket, full, self._compat)

    def read(self, key: str) -> bytes:
        """The whole object."""
        with self.open_reader(key) as reader:
            return reader.read()

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """One PutObject; with `if_absent` a conditional one where the server has them."""
        target, condition = self._target(key), {}
        if if_absent and self._compat != "legacy":
            condition = {"IfNoneMatch": "*"}
        elif if_absent and self.exists(key):
            return self._accept_same(key, data)
        try:
            with self._errors("write", key):
                self._client.put_object(**target.names, Body=data, **condition)
        except _Taken:
            # A retry after a lost answer meets its own write: the same bytes are no conflict.
            self._accept_same(key, data)
        return None

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
        full = join_key(self._prefix, "") + "/" + prefix if self._prefix else prefix
        skipped = len(self._prefix) + 1 if self._prefix else 0
        with self._errors("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=full
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Entry(found["Key"][skipped:], found["Size"], found["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        """Batches of DeleteObjects; one by one in legacy mode, whose servers may lack it."""
        full = [self._target(key).key for key in keys]
        with self._errors("delete", ""):
            if self._compat == "legacy":
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
                raise boto.ClientError({"Error": failed}, "DeleteObjects")

    def exists(self, key: str) -> bool:
        """One HeadObject."""
        try:
            with self._errors("read", key):
                self._client.head_object(**self._target(key).names)
        except ObjectMissing:
            return False
        return True

    def check(self, *, write: bool = True) -> None:
        """List, and write and delete an object."""
        probe(self, write=write)

    def _target(self, key: str) -> Target:
        full = join_key(self._prefix, check_key(key))
        return Target(self._client, self._bucket, full, _TRANSIENT, self._compat == "aws")

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except boto.ClientError as error:
            self._raise_answer(error, operation, key)
        except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
            reason = "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise AccessRefused(self._endpoint, operation, reason) from error
        except (boto.BotoCoreError, OSError) as error:
            # botocore wraps urllib3's errors; a broken body may still raise a bare OSError.
            raise StorageUnreachable(self._endpoint, operation, _reason(error)) from error

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)

    def _raise_answer(self, error: Any, operation: str, key: str) -> NoReturn:
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", ""))
        if code == "NoSuchBucket":
            raise BucketMissing(self._endpoint, self._bucket) from error
        if code in ("NoSuchKey", "404", "NotFound"):
            raise ObjectMissing(self.uri_of(key)) from error
        if code in _REFUSED:
            raise AccessRefused(self._endpoint, operation, _REFUSED[code]) from error
        if code in _WRONG_REGION:
            region = answer.get("Region")
            raise RegionWrong(self._endpoint, self._bucket, region) from error
        if code in _FULL:
            raise StorageFull(self.uri) from error
        if code in _TAKEN:
            raise _Taken from error
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status in (401, 403):
            raise AccessRefused(self._endpoint, operation, f"error {code}") from error
        raise StorageUnreachable(self._endpoint, operation, f"error {code}") from error


class _Taken(Exception):
    """A conditional write found an object."""


def _reason(error: Exception) -> str:
    """The kind of failure without addresses, headers or signatures."""
    names = {
        boto.EndpointConnectionError: "connection refused or name not found",
        boto.ConnectTimeoutError: f"no connection in {CONNECT_TIMEOUT_SECONDS} s",
        boto.ReadTimeoutError: f"no answer in {READ_TIMEOUT_SECONDS} s",
        boto.SSLError: "TLS failed",
        boto.ProxyConnectionError: "the proxy refused",
        boto.ConnectionClosedError: "connection closed",
        boto.FlexibleChecksumError: "what came differs from its checksum",
    }
    for kind, text in names.items():
        if isinstance(error, kind):
            return text
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "failed"
