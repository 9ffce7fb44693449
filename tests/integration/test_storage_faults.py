"""Storage against a real S3 server that fails in the ways that S3 servers fail."""

import hashlib
import random
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from faults.s3_actions import (
    answer,
    cut,
    cut_request,
    cut_response,
    delay,
    hang,
    ignore_conditions,
    lose_response,
    refuse_batch_delete,
    refuse_checksums,
    refuse_conditions,
)
from faults.s3_proxy import S3Proxy
from integration.bucket import BUCKET

from trainyard_trainer.dialect import find_dialect
from trainyard_trainer.storage import Patience, Storage, open_storage
from trainyard_trainer.storage_errors import (
    AccessRefused,
    ClockWrong,
    ObjectExists,
    StorageError,
    StorageFull,
    StorageUnreachable,
)

MIB = 2**20
PART = "part-0.pt"
DATA = random.Random(0).randbytes(40 * MIB + 7)  # Three parts.
BRIEF = Patience(connect_seconds=1, silence_seconds=1, attempts=3)
DIALECTS = ("aws", "strict", "legacy")


@pytest.fixture
def proxy(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    with S3Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def open_as(proxy: S3Proxy, request: pytest.FixtureRequest) -> Any:
    """Opens a prefix of the test's own, through the proxy, in a dialect."""
    name = request.node.name.replace("[", "-").replace("]", "")

    def open_it(compat: str = "aws", patience: Patience = BRIEF) -> Storage:
        uri = f"s3://{BUCKET}/{name}"
        return open_storage(uri, endpoint=proxy.access.endpoint, compat=compat, patience=patience)

    return open_it


@pytest.fixture(params=DIALECTS)
def storage(request: pytest.FixtureRequest, open_as: Any) -> Storage:
    return open_as(request.param)


def uploads(server: Any, storage: Storage) -> int:
    """How many uploads of this storage are not finished."""
    prefix = storage.uri.removeprefix(f"s3://{BUCKET}/")
    found = server.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
    return sum(upload["Key"].startswith(prefix) for upload in found)


def store(storage: Storage, data: bytes = DATA) -> Any:
    """Stream it; returns the writer."""
    with storage.open_writer(PART) as writer:
        for start in range(0, len(data), 5 * MIB):
            writer.write(data[start : start + 5 * MIB])
    return writer


def assert_stored(storage: Storage, writer: Any) -> None:
    assert storage.read(PART) == DATA
    assert (writer.size_bytes, writer.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert storage.trouble is None


PASSING = {
    "internal error": answer(500, "InternalError"),
    "slow down": answer(503, "SlowDown"),
    "silence": hang(),
    "away": cut(),
    "cut in a part": cut_request(3 * MIB),
    "answer lost": lose_response(),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_time_only(
    storage: Storage, proxy: S3Proxy, server: Any, fault: str
) -> None:
    """A part is sent again under its own number: never twice into the object."""
    rule = proxy.add(PASSING[fault], operation="UploadPart", query={"partNumber": "2"}, times=1)
    assert_stored(storage, store(storage))
    assert (rule.hits, uploads(server, storage)) == (1, 0)
    assert proxy.count("UploadPart") >= 4


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "CompleteMultipartUpload"])
def test_an_answer_lost_around_the_parts_costs_time_only(
    open_as: Any, proxy: S3Proxy, server: Any, operation: str
) -> None:
    proxy.add(lose_response(), operation=operation, times=1)
    storage = open_as()
    assert_stored(storage, store(storage))
    # An upload of which the writer never learned is for the sweep.
    assert uploads(server, storage) == (operation == "CreateMultipartUpload")
    assert storage.sweep(-60) == (operation == "CreateMultipartUpload")
    assert uploads(server, storage) == 0


def test_every_answer_to_the_completion_lost(open_as: Any, proxy: S3Proxy) -> None:
    rule = proxy.add(lose_response(), operation="CompleteMultipartUpload")
    storage = open_as()
    assert_stored(storage, store(storage))
    assert rule.hits == BRIEF.attempts


def test_a_completion_that_never_came_is_an_error(
    open_as: Any, proxy: S3Proxy, server: Any
) -> None:
    storage = open_as()
    earlier = store(storage, DATA[::-1])
    proxy.add(cut(), operation="CompleteMultipartUpload")
    with pytest.raises(StorageUnreachable):
        store(storage)
    assert storage.read(PART) == DATA[::-1], earlier.sha256
    assert uploads(server, storage) == 0


def test_a_lost_answer_to_a_write_once_is_no_conflict(storage: Storage, proxy: S3Proxy) -> None:
    proxy.add(lose_response(), operation="PutObject", times=1)
    storage.write("manifest.json", b"one", if_absent=True)
    assert storage.read("manifest.json") == b"one"
    with pytest.raises(ObjectExists):
        storage.write("manifest.json", b"two", if_absent=True)


def test_a_conflict_is_tried_again(open_as: Any, proxy: S3Proxy) -> None:
    proxy.add(answer(409, "ConditionalRequestConflict"), operation="PutObject", times=1)
    storage = open_as()
    storage.write("manifest.json", b"one", if_absent=True)
    assert storage.read("manifest.json") == b"one"


LASTING = [
    (answer(500, "InternalError"), StorageUnreachable, "error InternalError"),
    (answer(503, "SlowDown"), StorageUnreachable, "error SlowDown"),
    (hang(), StorageUnreachable, "no answer in 1 s"),
    (cut(), StorageUnreachable, "connection closed"),
    (answer(403, "RequestTimeTooSkewed"), ClockWrong, "the clock of this node differs"),
    (answer(400, "ExpiredToken"), AccessRefused, "expired token"),
    (answer(507, "InsufficientStorage"), StorageFull, f"no space is left at 's3://{BUCKET}'"),
    (answer(403, "QuotaExceeded"), StorageFull, f"no space is left at 's3://{BUCKET}'"),
]


@pytest.mark.parametrize(("action", "error", "text"), LASTING, ids=lambda v: str(v)[:30])
def test_a_fault_that_lasts_is_named_leaves_nothing_and_passes(
    open_as: Any, proxy: S3Proxy, server: Any, action: Any, error: type[StorageError], text: str
) -> None:
    storage = open_as()
    with proxy.during(action, operation="UploadPart"):
        with pytest.raises(error) as caught:
            store(storage)
        assert text in str(caught.value)
        assert storage.trouble == str(caught.value)
    assert not storage.exists(PART)
    assert uploads(server, storage) == 0
    assert storage.trouble, "a good read does not say that writes work again"
    assert_stored(storage, store(storage))


def test_a_server_that_is_silent_is_given_up_in_time(open_as: Any, proxy: S3Proxy) -> None:
    """Attempts x silence, some pauses, and one abort that has no more patience."""
    began = time.monotonic()
    proxy.add(hang())
    with pytest.raises(StorageUnreachable, match="no answer in 1 s"):
        store(open_as())
    assert time.monotonic() - began < 20


def test_a_read_goes_on_where_it_broke(open_as: Any, proxy: S3Proxy) -> None:
    storage = open_as()
    store(storage)
    for skip in range(4):
        proxy.add(cut_response(5 * MIB), operation="GetObject", skip=skip, times=1)
    assert storage.read(PART) == DATA
    with storage.open_reader(PART, 30 * MIB) as reader:
        assert b"".join(iter(lambda: reader.read(MIB), b"")) == DATA[30 * MIB :]


def test_memory_is_bounded_while_the_server_is_slow(open_as: Any, proxy: S3Proxy) -> None:
    proxy.add(delay(0.05), operation="UploadPart")
    piece = bytes(MIB)
    tracemalloc.start()
    with open_as().open_writer(PART) as writer:
        for _ in range(160):
            writer.write(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert writer.size_bytes == 160 * MIB
    assert peak < 100 * MIB


LACKS = {
    "nothing": ([], "aws"),
    "checksums": ([refuse_checksums], "strict"),
    "conditions refused": ([refuse_conditions], "legacy"),
    "conditions ignored": ([ignore_conditions], "legacy"),
    "batch deletes": ([refuse_batch_delete], "strict"),
    "everything": ([refuse_checksums, ignore_conditions, refuse_batch_delete], "legacy"),
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_a_server_lacks_is_found_and_done_without(
    open_as: Any, proxy: S3Proxy, lack: str
) -> None:
    missing, dialect = LACKS[lack]
    for take_away in missing:
        take_away(proxy)
    before = sum(proxy.counts.values())
    assert find_dialect(open_as) == dialect
    assert sum(proxy.counts.values()) - before <= 24
    storage = open_as(dialect)
    assert list(storage.list()) == []
    assert_stored(storage, store(storage))
    storage.write("once", b"1", if_absent=True)
    with pytest.raises(ObjectExists):
        storage.write("once", b"2", if_absent=True)
    storage.delete(["once", PART, "absent"])
    assert list(storage.list()) == []


def test_a_sweep_spares_the_young_and_the_neighbours(open_as: Any, server: Any) -> None:
    storage, client = open_as(), server.client()
    inside = storage.uri.removeprefix(f"s3://{BUCKET}/")
    for key in (f"{inside}/a", f"{inside}-not/b"):
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    assert storage.sweep(3600) == 0
    assert storage.sweep(-60) == 1
    (left,) = client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    client.abort_multipart_upload(Bucket=BUCKET, Key=left["Key"], UploadId=left["UploadId"])
