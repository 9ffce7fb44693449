"""The storage protocol against a real S3 server (versitygw) with real signatures."""

import hashlib
import random

import pytest
from cluster.s3 import S3
from ports import free_ports

from trainyard_trainer.storage import open_storage
from trainyard_trainer.storage_errors import (
    AccessRefused,
    BucketMissing,
    ObjectExists,
    ObjectMissing,
    StorageUnreachable,
)

BUCKET = "lung"
MIB = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with S3(tmp_path_factory.mktemp("s3") / "buckets") as access:
        client = access.client()
        client.create_bucket(Bucket=BUCKET)
        yield access, client


@pytest.fixture
def access(server, monkeypatch):
    for name, value in server[0].environment().items():
        monkeypatch.setenv(name, value)
    return server[0]


@pytest.fixture
def client(server):
    return server[1]


@pytest.fixture(params=["aws", "strict", "legacy"])
def storage(request, access):
    """A prefix of its own per test and mode."""
    prefix = f"s3://{BUCKET}/{request.node.name}"
    return open_storage(prefix, endpoint=access.endpoint, compat=request.param)


@pytest.fixture
def strict(request, access):
    uri = f"s3://{BUCKET}/{request.node.name}"
    return open_storage(uri, endpoint=access.endpoint, compat="strict")


def uploads(client) -> list:
    return client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def test_what_was_written_is_read_listed_and_deleted(storage):
    child = storage.child("ns/job")
    child.write("a/b.txt", b"one")
    assert child.read("a/b.txt") == b"one"
    assert child.exists("a/b.txt")
    assert not child.exists("a/c.txt")
    assert [(e.key, e.size_bytes) for e in child.list("a/")] == [("a/b.txt", 3)]
    assert [e.key for e in storage.list()] == ["ns/job/a/b.txt"]
    assert child.uri_of("a/b.txt") == f"{storage.uri}/ns/job/a/b.txt"
    child.delete(["a/b.txt", "a/absent"])
    assert list(storage.list()) == []


def test_a_stream_of_many_parts_comes_back_whole(storage, client):
    data = random.Random(0).randbytes(40 * MIB + 7)
    with storage.open_writer("part-0.pt") as writer:
        for start in range(0, len(data), 5 * MIB):
            writer.write(data[start : start + 5 * MIB])
        assert not storage.exists("part-0.pt")
    assert writer.size_bytes == len(data)
    assert writer.sha256 == hashlib.sha256(data).hexdigest()
    assert storage.read("part-0.pt") == data
    with storage.open_reader("part-0.pt", 39 * MIB) as reader:
        assert reader.read() == data[39 * MIB :]
    assert uploads(client) == []


@pytest.mark.parametrize("size", [0, 1, 16 * MIB, 16 * MIB + 1, 32 * MIB])
def test_any_size_comes_back_whole(strict, size):
    data = random.Random(size).randbytes(size)
    with strict.open_writer("x") as writer:
        writer.write(data)
    assert (writer.size_bytes, strict.read("x") == data) == (size, True)


@pytest.mark.parametrize("size", [10, 40 * MIB])
def test_a_failed_stream_leaves_nothing(strict, client, size):
    with pytest.raises(RuntimeError), strict.open_writer("x") as writer:
        writer.write(bytes(size))
        raise RuntimeError
    assert not strict.exists("x")
    assert uploads(client) == []


def test_a_list_goes_over_all_pages(strict, client):
    page = 1000
    for number in range(page + 5):
        client.put_object(Bucket=BUCKET, Key=f"{strict.uri.rpartition('/')[2]}/{number:05d}")
    keys = [entry.key for entry in strict.list()]
    assert keys == [f"{number:05d}" for number in range(page + 5)]
    strict.delete(keys)
    assert list(strict.list()) == []


def test_a_write_once_key_takes_the_same_bytes_again(storage):
    storage.write("a", b"one", if_absent=True)
    storage.write("a", b"one", if_absent=True)
    with pytest.raises(ObjectExists):
        storage.write("a", b"two", if_absent=True)
    assert storage.read("a") == b"one"


def test_a_missing_object_is_named(strict):
    with pytest.raises(ObjectMissing) as caught:
        strict.read("a")
    assert str(caught.value) == f"Storage holds no object '{strict.uri}/a'."
    with pytest.raises(ObjectMissing), strict.open_reader("a"):
        pass


def test_a_read_that_begins_at_the_end_is_empty(strict):
    strict.write("a", b"123")
    with strict.open_reader("a", 3) as reader:
        assert reader.read() == b""


def test_check_leaves_nothing_behind(storage):
    storage.check()
    assert list(storage.list()) == []


def test_a_missing_bucket_is_blamed_on_what_was_written(access):
    storage = open_storage("s3://lung-trian", endpoint=access.endpoint, field="spec.dataset.uri")
    with pytest.raises(BucketMissing, match=r"^spec\.dataset\.uri: "):
        next(iter(storage.list()), None)


def test_a_missing_bucket_is_named(access):
    storage = open_storage("s3://lung-trian/x", endpoint=access.endpoint)
    for action in (storage.check, lambda: storage.read("a"), lambda: storage.write("a", b"")):
        with pytest.raises(BucketMissing) as caught:
            action()
        assert str(caught.value) == (
            f"spec.storage.uri: {access.endpoint} has no bucket 'lung-trian'; create it, or "
            "correct the URI or endpoint."
        )


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong-secret", "wrong secret key"),
        ("AWS_ACCESS_KEY_ID", "NOBODY", "unknown access key"),
    ],
)
def test_wrong_credentials_are_told_without_being_shown(
    access, monkeypatch, variable, value, reason
):
    monkeypatch.setenv(variable, value)
    storage = open_storage(f"s3://{BUCKET}/x", endpoint=access.endpoint)
    with pytest.raises(AccessRefused) as caught:
        storage.check()
    assert str(caught.value) == (
        f"spec.storage.credentialsSecretRef: {access.endpoint} refused to list ({reason}); "
        "correct the access key, the secret key or their permissions."
    )
    assert value not in str(caught.value)


def test_absent_credentials_say_what_to_set(access, monkeypatch, tmp_path):
    for name in access.environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    storage = open_storage(f"s3://{BUCKET}/x", endpoint=access.endpoint)
    with pytest.raises(AccessRefused, match="no credentials; set AWS_ACCESS_KEY_ID"):
        storage.check()


def test_an_endpoint_that_is_down_is_named(access):
    endpoint = f"http://127.0.0.1:{free_ports(1, '127.0.0.1')[0]}"
    storage = open_storage(f"s3://{BUCKET}/x", endpoint=endpoint)
    with pytest.raises(StorageUnreachable) as caught:
        storage.check()
    assert str(caught.value) == (
        f"spec.storage: {endpoint} cannot be reached to list (connection refused or name not "
        "found); check the endpoint and the network."
    )
