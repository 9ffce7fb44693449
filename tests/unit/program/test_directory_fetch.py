"""A stored copy is downloaded whole or not at all."""

from pathlib import Path
from typing import Any

import pytest

from trainyard_trainer.directory import scan, unit_of
from trainyard_trainer.directory_fetch import CopyCorrupt, download_copy, verify_copy
from trainyard_trainer.directory_manifest import DirectoryManifest
from trainyard_trainer.directory_store import DirectoryStore, Reported
from trainyard_trainer.files import FileStorage
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage_errors import StorageUnreachable

FILES = 40


class Flaky(FileStorage):
    """Fails as often as it is told to, and counts what it gives."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened = 0
        self.errors: list[Exception] = []

    def open_reader(self, key: str, offset: int = 0) -> Any:
        self.opened += 1
        if self.errors:
            raise self.errors.pop()
        return super().open_reader(key, offset)


@pytest.fixture
def storage(tmp_path: Path) -> Flaky:
    return Flaky(tmp_path / "storage")


@pytest.fixture
def manifest(storage: Flaky, tmp_path: Path) -> DirectoryManifest:
    """A copy of many files, one of them empty."""
    root = tmp_path / "work"
    root.mkdir()
    for number in range(FILES):
        (root / f"{number:02d}").write_bytes(b"x" * number)
    identity = Identity(namespace="default", job="tune", uid="u1", attempt=1)
    listing = scan(root)
    store = DirectoryStore(storage, identity, keep_last=3)
    saved = store.save(root, listing, Reported(1), {unit_of(path) for path in listing})
    assert saved is not None
    return saved


def test_progress_never_falls_and_ends_with_all_bytes(storage, manifest, tmp_path):
    seen: list[tuple[int, int]] = []
    download_copy(storage, manifest, tmp_path / "new", lambda *step: seen.append(step))
    assert seen == sorted(seen)
    assert seen[-1] == (manifest.size_bytes, manifest.size_bytes)
    assert sorted(scan(tmp_path / "new")) == [file.path for file in manifest.files]


def test_what_was_whole_before_storage_went_away_is_not_read_again(storage, manifest, tmp_path):
    storage.errors = [StorageUnreachable("s3", "read", "gone")]
    with pytest.raises(StorageUnreachable):
        download_copy(storage, manifest, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    whole = len(scan(tmp_path / "new.partial"))
    storage.opened = 0
    download_copy(storage, manifest, tmp_path / "new")
    assert storage.opened <= FILES - whole + 1  # The one that failed is there, empty.
    assert (tmp_path / "new" / "39").read_bytes() == b"x" * 39


def test_a_spoilt_file_leaves_no_folder_behind(storage, manifest, tmp_path):
    spoilt = manifest.files[-1]
    (tmp_path / "storage" / spoilt.key).write_bytes(b"y" * spoilt.size_bytes)
    for action in (lambda: download_copy(storage, manifest, tmp_path / "new"),
                   lambda: verify_copy(storage, manifest)):  # fmt: skip
        with pytest.raises(CopyCorrupt, match="'39' differs from its SHA-256"):
            action()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["storage", "work"]


def test_more_bytes_than_were_saved_are_told_without_reading_them_all(storage, manifest, tmp_path):
    (tmp_path / "storage" / manifest.files[3].key).write_bytes(b"x" * 4)
    with pytest.raises(CopyCorrupt, match="'03' has more than its 3 bytes"):
        verify_copy(storage, manifest)
