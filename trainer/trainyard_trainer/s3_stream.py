"""Streams of one S3 object, in bounded memory: a multipart writer and a reader of ranges."""

import contextlib
import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from trainyard_trainer.s3_errors import ANSWERS, TRANSIENT, code_of
from trainyard_trainer.storage import READ_CHUNK_BYTES

PART_BYTES = 16 * 2**20
"""Size of a part; S3 wants at least 5 MiB for all but the last."""
PARTS_BEFORE_GROWTH = 1000
"""S3 takes 10,000 parts; after each thousand they double: 16 GiB, 48 GiB, ... 16 TiB."""
UPLOADS_IN_FLIGHT = 4
"""With the part being filled, a writer holds at most five parts: 80 MiB."""
RANGE_BYTES = READ_CHUNK_BYTES
"""Who reads in such chunks gets them without a copy."""
RANGES_IN_FLIGHT = 3
"""With the range being read, a reader holds at most four: 32 MiB."""
READ_RETRIES = 4
"""Of one range."""
_WRITER = "trainyard-writer"
"""Metadata by which a writer knows its own object."""


class Clients(Protocol):
    """What reaches a server."""

    @property
    def client(self) -> Any:
        """A boto3 client."""

    @property
    def brief_client(self) -> Any:
        """One that soon gives up."""


@dataclass(frozen=True)
class Target:
    """One object of one bucket."""

    clients: Clients
    bucket: str
    key: str
    part_checksums: bool = False
    """Whether the upload of parts is declared, and completed, with a CRC32 of each."""

    @property
    def client(self) -> Any:
        """The patient one."""
        return self.clients.client

    @property
    def names(self) -> dict[str, str]:
        """The two arguments that every call on an object takes."""
        return {"Bucket": self.bucket, "Key": self.key}


def abort_upload(target: Target, upload_id: str) -> bool:
    """Best effort: what remains is invisible, and a sweep or a lifecycle rule takes it."""
    with contextlib.suppress(Exception):
        target.clients.brief_client.abort_multipart_upload(**target.names, UploadId=upload_id)
        return True
    return False


class S3Writer:
    """Takes bytes, hashes them, uploads parts in a few threads; completes or aborts on exit."""

    def __init__(self, target: Target, part_bytes: int = PART_BYTES) -> None:
        self._target, self._part_bytes = target, part_bytes
        self._token = uuid4().hex
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Future[dict[str, Any]]] = []
        self._hashed: deque[Future[None]] = deque()
        self.size_bytes = 0
        self.sha256 = ""

    def __enter__(self) -> "S3Writer":
        self._senders = ThreadPoolExecutor(UPLOADS_IN_FLIGHT, thread_name_prefix="s3-part")
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="s3-hash")
        return self

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Buffer `data`, sending each part as it fills; waits while all senders are busy."""
        view = memoryview(data).cast("B")
        self.size_bytes += view.nbytes
        rest = view
        while rest.nbytes:
            # One byte more than a part must have come: the last part goes out on close.
            if len(self._buffer) == self._size_of_part():
                self._send()
            taken = rest[: self._size_of_part() - len(self._buffer)]
            self._buffer += taken
            rest = rest[taken.nbytes :]
        return view.nbytes

    def flush(self) -> None:
        """Nothing to do: parts go out as they fill."""

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
                self.sha256 = self._hash.hexdigest()
        except BaseException:
            self._abort()
            raise
        else:
            if kind is not None:
                self._abort()
        finally:
            self._senders.shutdown(cancel_futures=True)
            self._hasher.shutdown(cancel_futures=True)

    def _size_of_part(self) -> int:
        return self._part_bytes << (len(self._parts) // PARTS_BEFORE_GROWTH)

    def _send(self) -> None:
        if self._upload_id is None:
            self._upload_id = self._create()
        if len(self._parts) >= UPLOADS_IN_FLIGHT:
            self._parts[-UPLOADS_IN_FLIGHT].result()
            self._hashed.popleft().result()
        body, self._buffer = self._buffer, bytearray()
        self._hashed.append(self._hasher.submit(self._hash.update, body))
        self._parts.append(self._senders.submit(self._upload, len(self._parts) + 1, body))

    def _create(self) -> str:
        checksum = {"ChecksumAlgorithm": "CRC32"} if self._target.part_checksums else {}
        answer = self._target.client.create_multipart_upload(
            **self._target.names, Metadata={_WRITER: self._token}, **checksum
        )
        return str(answer["UploadId"])

    def _upload(self, number: int, body: bytearray) -> dict[str, Any]:
        answer = self._target.client.upload_part(
            **self._target.names, UploadId=self._upload_id, PartNumber=number, Body=body
        )
        # Checksums that the upload was not declared with make the completion fail.
        names = ("ETag", "ChecksumCRC32") if self._target.part_checksums else ("ETag",)
        return {"PartNumber": number} | {name: answer[name] for name in names if name in answer}

    def _finish(self) -> None:
        if self._upload_id is None:
            self._hash.update(self._buffer)
            self._target.client.put_object(**self._target.names, Body=self._buffer)
            return
        self._send()
        parts = [part.result() for part in self._parts]
        for hashed in self._hashed:
            hashed.result()
        try:
            self._target.client.complete_multipart_upload(
                **self._target.names, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
            )
        except Exception:
            # Where the answer was lost, the next try is told that there is no such upload.
            if not self._is_stored():
                raise

    def _is_stored(self) -> bool:
        """Whether the object is there and is this writer's own."""
        with contextlib.suppress(Exception):
            found = self._target.clients.brief_client.head_object(**self._target.names)
            is_own = found.get("Metadata", {}).get(_WRITER) == self._token
            return is_own and found["ContentLength"] == self.size_bytes
        return False

    def _abort(self) -> None:
        if self._upload_id is None:
            return
        for part in self._parts:
            part.cancel()
        self._senders.shutdown()
        abort_upload(self._target, self._upload_id)


class S3Reader:
    """Reads an object front to back: ranges come ahead of time, each over its own connection."""

    def __init__(self, target: Target, offset: int = 0, range_bytes: int = RANGE_BYTES) -> None:
        self._target, self._range_bytes = target, range_bytes
        self._next = offset
        """Where the next range to ask for begins."""
        self._end = 0
        self._etag: str | None = None
        self._coming: deque[Future[bytes]] = deque()
        self._fetchers: ThreadPoolExecutor | None = None
        self._data, self._position = b"", 0

    def __enter__(self) -> "S3Reader":
        first = self._next
        try:
            answer = self._get(first, first + self._range_bytes)
        except ANSWERS as error:
            # A range that starts at the end is no error: there is nothing left to read.
            if code_of(error) not in ("InvalidRange", "416"):
                raise
            return self
        self._etag = answer.get("ETag")
        self._end = _end_of(answer)
        self._next = first + answer["ContentLength"]
        if self._next < self._end:
            self._fetchers = ThreadPoolExecutor(RANGES_IN_FLIGHT, thread_name_prefix="s3-range")
            self._coming.append(self._fetchers.submit(self._take, first, self._next, answer))
            self._ask_ahead()
        else:
            self._data = self._take(first, self._next, answer)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fetchers is not None:
            self._fetchers.shutdown(cancel_futures=True)

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; all that is left where negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(self._range_bytes), b""))
        if self._position == len(self._data) and self._coming:
            self._data, self._position = self._coming.popleft().result(), 0
            self._ask_ahead()
        taken = self._data[self._position : self._position + size]
        self._position += len(taken)
        return taken

    def _ask_ahead(self) -> None:
        while self._next < self._end and self._fetchers and len(self._coming) < RANGES_IN_FLIGHT:
            stop = min(self._next + self._range_bytes, self._end)
            self._coming.append(self._fetchers.submit(self._take, self._next, stop))
            self._next = stop

    def _take(self, start: int, stop: int, answer: Any = None) -> bytes:
        """The bytes of a range; a connection lost on the way is opened again where it broke."""
        pieces: list[bytes] = []
        for retries_left in reversed(range(READ_RETRIES + 1)):
            try:
                answer = answer or self._get(start, stop)
                while start < stop and (piece := answer["Body"].read(stop - start)):
                    pieces.append(piece)
                    start += len(piece)
                break
            except TRANSIENT:
                if not retries_left:
                    raise
                if answer is not None:
                    answer["Body"].close()
                answer = None
        return b"".join(pieces)

    def _get(self, start: int, stop: int) -> Any:
        same = {"IfMatch": self._etag} if self._etag else {}
        span = f"bytes={start}-{stop - 1}"
        return self._target.client.get_object(**self._target.names, Range=span, **same)


def _end_of(answer: Any) -> int:
    """Size of the whole object."""
    whole = str(answer.get("ContentRange", "")).rpartition("/")[2]
    return int(whole) if whole.isdecimal() else int(answer["ContentLength"])
