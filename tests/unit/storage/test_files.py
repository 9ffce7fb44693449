import errno
import hashlib
import io
import os
from pathlib import Path

import pytest

from trainyard_trainer.storage import Entry, open_storage
from trainyard_trainer.storage_errors import (
    AccessRefused,
    ObjectExists,
    ObjectMissing,
    StorageCompatInvalid,
    StorageFull,
    StorageUnreachable,
    StorageUriInvalid,
)


def keys(storage, prefix=""):
    return [entry.key for entry in storage.list(prefix)]


def test_what_was_written_is_read(storage):
    storage.write("a/b.txt", b"one")
    assert storage.read("a/b.txt") == b"one"
    assert storage.exists("a/b.txt")


def test_a_write_replaces(storage):
    storage.write("a", b"one")
    storage.write("a", b"two")
    assert storage.read("a") == b"two"


def test_a_writer_knows_size_and_digest(storage):
    with storage.open_writer("a/b") as writer:
        writer.write(b"12")
        writer.write(memoryview(b"345"))
    assert writer.size_bytes == 5
    assert writer.sha256 == hashlib.sha256(b"12345").hexdigest()
    assert storage.read("a/b") == b"12345"


def test_a_failed_writer_leaves_nothing(storage, tmp_path):
    with pytest.raises(RuntimeError), storage.open_writer("a/b") as writer:
        writer.write(b"half")
        raise RuntimeError
    assert keys(storage) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_failed_writer_keeps_the_object_before_it(storage):
    storage.write("a", b"old")
    with pytest.raises(RuntimeError), storage.open_writer("a") as writer:
        writer.write(b"new")
        raise RuntimeError
    assert storage.read("a") == b"old"


def test_an_open_writer_is_invisible(storage):
    with storage.open_writer("a/b") as writer:
        writer.write(b"half")
        assert keys(storage) == []
        assert not storage.exists("a/b")
    assert keys(storage) == ["a/b"]


def test_a_reader_starts_at_its_offset(storage):
    storage.write("a", b"0123456789")
    with storage.open_reader("a", 7) as reader:
        assert reader.read(2) == b"78"
        assert reader.read() == b"9"
        assert reader.read() == b""


def test_a_list_is_in_the_order_of_keys(storage):
    for key in ("b", "a/2", "a/1", "a-b"):
        storage.write(key, b"xy")
    found = list(storage.list())
    assert [entry.key for entry in found] == ["a-b", "a/1", "a/2", "b"]
    assert found[0] == Entry("a-b", 2, found[0].modified)


@pytest.mark.parametrize(
    ("prefix", "found"),
    [("a/", ["a/1", "a/2"]), ("a", ["a-b", "a/1", "a/2"]), ("a/1", ["a/1"]), ("none/", [])],
)
def test_a_list_takes_any_prefix(storage, prefix, found):
    for key in ("b", "a/2", "a/1", "a-b"):
        storage.write(key, b"")
    assert keys(storage, prefix) == found


def test_a_child_sees_only_its_prefix(storage):
    child = storage.child("ns/job/uid")
    child.write("run.json", b"{}")
    assert keys(child) == ["run.json"]
    assert keys(storage) == ["ns/job/uid/run.json"]
    assert child.uri == f"{storage.uri}/ns/job/uid"
    assert child.uri_of("run.json") == f"{storage.uri}/ns/job/uid/run.json"


def test_deleting_takes_empty_directories_along(storage, tmp_path):
    storage.write("a/b/c", b"")
    storage.delete(["a/b/c", "absent"])
    assert keys(storage) == []
    assert not (tmp_path / "store/a/b").exists()


def test_a_missing_object_is_named(storage):
    with pytest.raises(ObjectMissing) as caught:
        storage.read("a")
    assert caught.value.uri == storage.uri_of("a")
    with pytest.raises(ObjectMissing):
        storage.open_reader("a")


def test_a_write_once_key_takes_the_same_bytes_again(storage):
    storage.write("a", b"one", if_absent=True)
    storage.write("a", b"one", if_absent=True)
    with pytest.raises(ObjectExists):
        storage.write("a", b"two", if_absent=True)
    assert storage.read("a") == b"one"


@pytest.mark.parametrize("key", ["/a", "a//b", "../a", "a/../b", "", "a/", "."])
def test_a_key_cannot_leave_its_prefix(storage, key):
    with pytest.raises(ValueError, match="not a storage key"):
        storage.read(key)


def test_check_leaves_nothing_behind(storage):
    storage.check()
    assert keys(storage) == []


def test_a_sweep_takes_what_dead_writers_left(storage, tmp_path):
    storage.write("a/whole", b"1")
    old, young = tmp_path / "store/a/.x.1.partial", tmp_path / "store/a/.y.2.partial"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    os.utime(tmp_path / "store/a/whole", (0, 0))
    assert storage.child("b").sweep(60) == 0
    assert storage.sweep(60) == 1
    assert (old.exists(), young.exists(), keys(storage)) == (False, True, ["a/whole"])


def test_trouble_is_told_until_it_is_over(storage, tmp_path):
    child = storage.child("runs")
    storage.write("there", b"1")
    (tmp_path / "store/runs").write_text("in the way")
    with pytest.raises(StorageUnreachable):
        child.write("a", b"1")
    assert storage.trouble == (
        f"spec.storage: {child.uri} cannot be reached to write (Not a directory); check the "
        "endpoint and the network."
    )
    storage.read("there")
    assert storage.trouble
    (tmp_path / "store/runs").unlink()
    child.write("a", b"1")
    assert child.trouble is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_finds_a_directory_that_refuses(storage, tmp_path):
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(AccessRefused):
        storage.check()


def test_a_uri_may_hold_escapes(tmp_path):
    open_storage((tmp_path / "with space").as_uri()).write("a", b"")
    assert Path(tmp_path / "with space/a").exists()


@pytest.mark.parametrize(
    "uri", ["", "/data", "http://x/y", "s3:///prefix", "file://host/x", "s3://b/p?x=1", "file:x"]
)
def test_an_unknown_uri_says_what_to_write(uri):
    with pytest.raises(StorageUriInvalid) as caught:
        open_storage(uri)
    assert str(caught.value) == (
        f"spec.storage.uri: cannot read '{uri}'; write s3://<bucket>/<prefix> or "
        "file:///<directory>."
    )


def test_an_unknown_dialect_is_not_blamed_on_the_uri(tmp_path):
    with pytest.raises(StorageCompatInvalid) as caught:
        open_storage(tmp_path.as_uri(), compat="minio")
    assert str(caught.value) == (
        "spec.storage.compat: unknown dialect 'minio'; write one of aws, strict, legacy, or leave "
        "it out."
    )


def test_a_file_that_cannot_be_closed_is_not_published(tmp_path, monkeypatch):
    """A network's file system may keep the bad news for the end."""
    from trainyard_trainer import files

    class Unclosable(io.FileIO):
        def close(self):
            was_open = not self.closed
            super().close()
            if was_open:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_create", lambda path: Unclosable(path, "xb"))
    storage = files.FileStorage(tmp_path)
    for is_new in (True, False):
        with pytest.raises(StorageFull):
            storage.write("a", b"one", if_absent=is_new)
    assert list(tmp_path.iterdir()) == []
