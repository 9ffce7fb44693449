"""Which dialect of S3 a server speaks: found by doing what a run will do, below its own prefix."""

import contextlib
from collections.abc import Callable
from uuid import uuid4

from trainyard_operator.contract import S3Dialect
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import ObjectExists, RequestRefused

DIALECTS: dict[S3Dialect, str] = {
    "aws": "aws: checksums, conditional writes and batch deletes",
    "strict": "strict: conditional writes, no CRC32 checksums or batch deletes",
    "legacy": "legacy: none of conditional writes, CRC32 checksums and batch deletes",
}
"""From the most capable to the least, with what each has."""


def find_dialect(open_as: Callable[[str], Storage]) -> S3Dialect:
    """The most capable dialect in which storage does what it is asked; six requests for aws.

    open_as: opens storage in a dialect. Raises what a person must fix, and StorageUnreachable.
    """
    *capable, last = DIALECTS
    key = f".probe/{uuid4().hex}"
    for dialect in capable:
        with contextlib.suppress(RequestRefused):
            if writes_once(open_as(dialect), key):
                return dialect
    storage = open_as(last)
    storage.delete([key])
    storage.check()
    return last


def writes_once(storage: Storage, key: str) -> bool:
    """List, write, write again and delete: whether the second write was refused."""
    next(iter(storage.list(".probe/")), None)
    is_refused = False
    try:
        storage.write(key, b"trainyard", if_absent=True)
        storage.write(key, b"another", if_absent=True)
    except ObjectExists:
        is_refused = True
    storage.delete([key])
    return is_refused
