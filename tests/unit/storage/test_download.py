import pytest

from trainyard_trainer.manifest import Manifest, download
from trainyard_trainer.storage_errors import CheckpointCorrupt

FILES = {"model.pt": b"weights" * 100, "part-0.pt": b"momenta" * 50}


class Offsets:
    """Lets reads through and notes at which offset each began."""

    def __init__(self, storage):
        self._storage, self.seen = storage, []

    def open_reader(self, key, offset=0):
        self.seen.append((key.rpartition("/")[2], offset))
        return self._storage.open_reader(key, offset)


def test_a_download_is_the_parts_and_the_manifest(storage, store_checkpoint, tmp_path):
    manifest, seen = store_checkpoint(FILES), []
    files = download(storage, manifest, tmp_path / "out", lambda *done: seen.append(done))
    assert [file.name for file in files] == ["model.pt", "part-0.pt"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == FILES | {
        "manifest.json": manifest.to_json()
    }
    assert Manifest.from_json((tmp_path / "out/manifest.json").read_bytes()) == manifest
    assert seen == [(0, 1050), (700, 1050), (700, 1050), (1050, 1050)]


def test_a_download_may_be_the_weights_alone(storage, store_checkpoint, tmp_path):
    manifest = store_checkpoint(FILES)
    assert manifest.weights is not None
    download(storage, manifest, tmp_path, parts=[manifest.weights])
    assert (tmp_path / "model.pt").read_bytes() == FILES["model.pt"]
    assert not (tmp_path / "part-0.pt").exists()


def test_a_download_goes_on_where_it_was_cut(storage, store_checkpoint, tmp_path):
    manifest, watched = store_checkpoint(FILES), Offsets(storage)
    (tmp_path / "model.pt.partial").write_bytes(FILES["model.pt"][:300])
    (tmp_path / "part-0.pt").write_bytes(FILES["part-0.pt"])
    download(watched, manifest, tmp_path)
    assert watched.seen == [("model.pt", 300)]
    assert (tmp_path / "model.pt").read_bytes() == FILES["model.pt"]


@pytest.mark.parametrize("left", [b"rubbish", b"rubbish" * 1000, b""])
def test_a_wrong_beginning_is_fetched_again(storage, store_checkpoint, tmp_path, left):
    (tmp_path / "model.pt.partial").write_bytes(left)
    download(storage, store_checkpoint(FILES), tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == FILES["model.pt"]
    assert not list(tmp_path.glob("*.partial"))


def test_an_altered_file_is_fetched_again(storage, store_checkpoint, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"X" + FILES["model.pt"][1:])
    download(storage, store_checkpoint(FILES), tmp_path)
    assert (tmp_path / "model.pt").read_bytes() == FILES["model.pt"]


def test_a_corrupt_part_never_gets_its_name(storage, store_checkpoint, tmp_path):
    manifest = store_checkpoint(FILES)
    storage.write(manifest.parts[0].key, b"X" + FILES["model.pt"][1:])
    with pytest.raises(CheckpointCorrupt, match=r"model\.pt differs"):
        download(storage, manifest, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "store"]
