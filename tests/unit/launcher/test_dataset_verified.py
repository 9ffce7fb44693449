"""What comes from a data set is compared with its listing; archives write nothing outside."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard_trainer import dataset_cache
from trainyard_trainer.context import StorageLocation
from trainyard_trainer.dataset import bring_dataset, copy_dataset, look_up
from trainyard_trainer.dataset_fetch import DatasetAltered, Fetcher
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.files import FileStorage
from trainyard_trainer.storage import Entry

HERE = StorageLocation(uri="file:///unused", endpoint=None, region=None)
GOOD = b"a,1\n"


class Tagged(FileStorage):
    """Says of each object the MD5 of `GOOD`, and gives what it is told to."""

    answers: tuple[bytes, ...] = (GOOD,)
    reads = 0

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for entry in super().list(prefix):
            yield replace(entry, md5=hashlib.md5(GOOD, usedforsecurity=False).hexdigest())

    def read_small(self, key: str) -> bytes:
        self.reads += 1
        return self.answers[(self.reads - 1) % len(self.answers)]


@pytest.fixture
def tagged(tmp_path: Path) -> Tagged:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_bytes(GOOD)
    return Tagged(folder)


def test_an_object_that_came_wrong_once_is_read_again(tagged: Tagged, tmp_path: Path):
    tagged.answers = (b"a,2\n", GOOD, GOOD, GOOD)
    with pytest.raises(DatasetAltered, match=r"a\.csv' differs from its ETag, in two ways"):
        Fetcher(tagged, tmp_path / "data").fetch_one(next(tagged.list()))
    assert not (tmp_path / "data/a.csv").exists()
    Fetcher(tagged, tmp_path / "data").fetch_one(next(tagged.list()))
    assert (tmp_path / "data/a.csv").read_bytes() == GOOD


def test_an_etag_that_is_no_digest_is_found_out_once(tagged: Tagged, tmp_path: Path):
    tagged.answers = (b"a,2\n",)
    fetcher, entries = Fetcher(tagged, tmp_path / "data"), list(tagged.list())
    for entry in entries:
        fetcher.fetch_one(entry)
    assert tagged.reads == 3
    assert (tmp_path / "data/b.csv").read_bytes() == b"a,2\n"


def write_tar(path: Path, members: dict[str, bytes | str]) -> None:
    """A text is the target of a link."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(("name", "write"), [("d.tar.gz", write_tar), ("d.zip", write_zip)])
def test_an_archive_is_unpacked_once(tmp_path: Path, name: str, write: Callable[..., None]):
    source = tmp_path / "bucket"
    source.mkdir()
    write(source / name, {"train/a.csv": b"1", "b.csv": b"2"})
    (source / "d.tar.gz.bak").write_bytes(b"not asked for")
    target, said = tmp_path / "data", []
    for _ in range(2):
        bring_dataset((source / name).as_uri(), str(target), HERE, said.append)
    assert (target / "train/a.csv").read_bytes() == b"1"
    assert sorted(path.name for path in target.iterdir() if path.name[0] != ".") == [
        "b.csv",
        "train",
    ]
    assert ", 1 fetched in " in said[0]
    assert ", 0 fetched in " in said[1]


@pytest.mark.parametrize(
    ("name", "write", "members"),
    [
        ("d.tar.gz", write_tar, {"../escaped": b"1"}),
        ("d.tar.gz", write_tar, {"out": "/etc", "out/passwd": b"1"}),
        ("d.zip", write_zip, {"../escaped": b"1"}),
        ("d.zip", write_zip, {"/escaped": b"1"}),
        ("d.tar", lambda path, _: path.write_bytes(b"no archive"), {}),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(
    tmp_path: Path, name: str, write: Callable[..., None], members: dict[str, bytes]
):
    source, target = tmp_path / "bucket", tmp_path / "data"
    source.mkdir()
    write(source / name, members)
    with pytest.raises(ConfigurationError) as caught:
        bring_dataset((source / name).as_uri(), str(target), HERE, print)
    assert str(caught.value).startswith(f"spec.dataset.uri: '{name}' cannot be unpacked (")
    assert str(caught.value).endswith("; pack the data again, with plain files and relative names.")
    assert not (tmp_path / "escaped").exists()
    assert sorted(path.name for path in target.iterdir()) == [".trainyard-dataset.lock"]


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """URIs of two data sets of 1,000 bytes."""
    for name in ("one", "two"):
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train/x.bin").write_bytes(name[:1].encode() * 1000)
    return (tmp_path / "one").as_uri(), (tmp_path / "two").as_uri()


def bring(uri: str, tmp_path: Path, said: list[str]) -> Path:
    path = bring_dataset(uri, str(tmp_path / "data"), HERE, said.append, tmp_path / "cache")
    assert path is not None
    return Path(path)


def test_the_cache_serves_the_next_attempt_and_shows_it_at_the_path(two, tmp_path: Path):
    said: list[str] = []
    places = {bring(two[0], tmp_path, said) for _ in range(2)}
    assert len(places) == 1
    assert ", 1 fetched in " in said[0]
    assert ", 0 fetched in " in said[1]
    assert (tmp_path / "data/train/x.bin").read_bytes() == b"o" * 1000


def test_a_data_set_that_is_written_anew_does_not_change_the_old_one(two, tmp_path: Path):
    before = bring(two[0], tmp_path, [])
    (tmp_path / "one/train/x.bin").write_bytes(b"new")
    after = bring(two[0], tmp_path, [])
    assert before != after
    assert (before / "train/x.bin").read_bytes() == b"o" * 1000
    assert (tmp_path / "data/train/x.bin").read_bytes() == b"new"


def test_what_nobody_uses_makes_room_and_what_is_in_use_stays(
    two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    old = dataset_cache.place_of(cache, "s3://lab/old", "x")
    copy_dataset(look_up(FileStorage(tmp_path / "two"), two[1]), old)
    old.with_name(old.name + ".lock").touch()
    used = bring(two[0], tmp_path, [])

    def free(folder: Path) -> int:
        return 2000 - 1000 * sum(path.is_dir() for path in folder.glob("datasets/*"))

    monkeypatch.setattr(dataset_cache, "_free_bytes", free)
    assert dataset_cache.make_room(cache, 900) == 1
    assert (old.exists(), used.exists()) == (False, True)
    with pytest.raises(ConfigurationError, match=r"spec\.dataset\.cache: the data set needs 2 MiB"):
        dataset_cache.make_room(cache, 2 * 2**20)
    assert used.exists()
