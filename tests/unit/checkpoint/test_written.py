"""What earlier versions wrote is read for ever: a file for each format, as it was written.

A change that fails here makes stored checkpoints unreadable. Raise FORMAT, keep a reader of the
older one, and add a file of the new one; never write these anew.
"""

import json
from pathlib import Path

import pytest

from trainyard_trainer import directory_manifest, manifest
from trainyard_trainer.directory_manifest import DirectoryManifest
from trainyard_trainer.manifest import Best, Manifest
from trainyard_trainer.storage_errors import ManifestInvalid

WRITTEN = Path(__file__).with_name("written")


def written(kind: str, number: int) -> bytes:
    return (WRITTEN / f"{kind}-{number}.json").read_bytes()


@pytest.mark.parametrize("number", range(1, manifest.FORMAT + 1))
def test_checkpoint_of_this_format_is_read(number: int) -> None:
    found = Manifest.from_json(written("manifest", number))
    assert (found.job, found.step, found.attempt, found.world_size) == ("nodules", 120, 2, 4)
    assert found.best == Best(metric="val_accuracy", mode="max")
    assert [part.name for part in found.parts] == ["model.pt", "part-0.pt"]
    assert found.metrics == {"val_accuracy": 0.9375, "train_loss": 0.21}


@pytest.mark.parametrize("number", range(1, directory_manifest.FORMAT + 1))
def test_directory_of_this_format_is_read(number: int) -> None:
    key = "directory/a2/000003/manifest.json"
    found = DirectoryManifest.from_json(written("directory", number), key)
    assert [file.path for file in found.files] == ["weights/last.pt"]
    assert (found.step, found.metrics) == (120, {"loss": 0.21})


def test_newest_format_writes_what_is_kept_here() -> None:
    text = written("manifest", manifest.FORMAT)
    assert Manifest.from_json(text).to_json() == text


def test_checkpoint_of_a_later_version_is_not_taken_for_a_broken_one() -> None:
    body = json.loads(written("manifest", 1)) | {"format": manifest.FORMAT + 1}
    with pytest.raises(ManifestInvalid, match=f"its format is {manifest.FORMAT + 1}, not"):
        Manifest.from_json(json.dumps(body).encode())
