"""Streams of one S3 object: a multipart writer in bounded memory, a reader that reconnects."""

import contextlib
import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

PART_BYTES = 16 * 2**20
"""Size of a part; S3 wants at least 5 MiB for all but the last."""
PARTS_BEFORE_GROWTH = 1000
"""S3 takes 10,000 parts; after each thousand they double: 16 GiB, 48 GiB, ... 16 TiB."""
UPLOADS_IN_FLIGHT = 3
"""With the part being filled, a writer holds at most four parts: 64 MiB."""
READ_RETRIES = 4


@dataclass(frozen=True)
class Target:
    """One object of one bucket, and the client that reaches it."""

    client: Any
    bucket: str
    key: str
    transient: tuple[type[Exception], ...] = (OSError,)
    """Errors after which a read goes on over a new connection."""

    part_checksums: bool = False
    """Whether the upload of parts is declared, and completed, with a CRC32 of each."""

    @property
    def names(self) -> dict[str, str]:
        """The two arguments that every call on an object takes."""
        return {"Bucket": self.bucket, "Key": self.key}


class S3Writer:
    """Takes bytes, hashes them, uploads parts in a few threads; completes or aborts on exit."""

    def __init__(self, target: Target, part_bytes: int = PART_BYTES) -> None:
        self._target, self._part_bytes = target, part_bytes
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Future[dict[str, Any]]] = []
        self.size_bytes = 0
        self.sha256 = ""

    def __enter__(self) -> "S3Writer":
        self._pool = ThreadPoolExecutor(UPLOADS_IN_FLIGHT, thread_name_prefix="s3-part")
        return self

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Buffer `data`, sending each part as it fills; waits while all senders are busy."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
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
            self._pool.shutdown(cancel_futures=True)

    def _size_of_part(self) -> int:
        return self._part_bytes << (len(self._parts) // PARTS_BEFORE_GROWTH)

    def _send(self) -> None:
        if self._upload_id is None:
            checksum = {"ChecksumAlgorithm": "CRC32"} if self._target.part_checksums else {}
            answer = self._target.client.create_multipart_upload(**self._target.names, **checksum)
            self._upload_id = answer["UploadId"]
        if len(self._parts) >= UPLOADS_IN_FLIGHT:
            self._parts[-UPLOADS_IN_FLIGHT].result()
        body, self._buffer = self._buffer, bytearray()
        self._parts.append(self._pool.submit(self._upload, len(self._parts) + 1, body))

    def _upload(self, number: int, body: bytearray) -> dict[str, Any]:
        answer = self._target.client.upload_part(
            **self._target.names, UploadId=self._upload_id, PartNumber=number, Body=body
        )
        # Checksums that the upload was not declared with make the completion fail.
        names = ("ETag", "ChecksumCRC32") if self._target.part_checksums else ("ETag",)
        return {"PartNumber": number} | {name: answer[name] for name in names if name in answer}

    def _finish(self) -> None:
        if self._upload_id is None:
            self._target.client.put_object(**self._target.names, Body=bytes(self._buffer))
            return
        self._send()
        parts = [part.result() for part in self._parts]
        self._target.client.complete_multipart_upload(
            **self._target.names, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
        )

    def _abort(self) -> None:
        """Best effort: what remains is invisible, and a lifecycle rule or sweep takes it."""
        if self._upload_id is None:
            return
        for part in self._parts:
            part.cancel()
        self._pool.shutdown()
        with contextlib.suppress(Exception):
            self._target.client.abort_multipart_upload(
                **self._target.names, UploadId=self._upload_id
            )


class S3Reader:
    """Reads an object front to back; a connection lost on the way is opened again in place."""

    def __init__(self, target: Target, offset: int = 0) -> None:
        self._target, self._position = target, offset
        self._etag: str | None = None
        self._body: Any = None
        self._retries_left = READ_RETRIES

    def __enter__(self) -> "S3Reader":
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        if self._body is not None:
            self._body.close()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; all that is left where negative."""
        if size < 0:
            return b"".join(iter(lambda: self._read_some(PART_BYTES), b""))
        return self._read_some(size)

    def _read_some(self, size: int) -> bytes:
        while True:
            try:
                data: bytes = self._body.read(size) if self._body is not None else b""
            except self._target.transient:
                if not self._retries_left:
                    raise
                self._retries_left -= 1
                self._body.close()
                self._open()
                continue
            self._position += len(data)
            return data

    def _open(self) -> None:
        options: dict[str, Any] = {"Range": f"bytes={self._position}-"} if self._position else {}
        if self._etag:
            options["IfMatch"] = self._etag
        try:
            answer = self._target.client.get_object(**self._target.names, **options)
        except self._target.client.exceptions.ClientError as error:
            # A range that starts at the end is no error: there is nothing left to read.
            if error.response["Error"].get("Code") not in ("InvalidRange", "416"):
                raise
            self._body = None
            return
        self._etag = answer.get("ETag")
        self._body = answer["Body"]
