"""A storage of one run, and manifests, without torch."""

import hashlib

import pytest

from trainyard_trainer.manifest import Manifest, Part
from trainyard_trainer.storage import Storage, open_storage


@pytest.fixture
def storage(tmp_path) -> Storage:
    return open_storage((tmp_path / "store").as_uri())


@pytest.fixture
def make_manifest():
    """Builds a manifest; `files` maps the name of a part to its bytes."""

    def make(files: dict[str, bytes] | None = None, **changes) -> Manifest:
        fields = {"step": 500, "attempt": 2} | changes
        prefix = f"checkpoints/step-{fields['step']:012d}-a{fields['attempt']}"
        parts = tuple(
            Part(
                key=f"{prefix}/{name}",
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                rank=0,
            )
            for name, data in (files or {"model.pt": b"weights"}).items()
        )
        base = {
            "job": "nodules",
            "namespace": "research",
            "uid": "u-1",
            "epoch": 3,
            "world_size": 1,
            "created_at": "2026-01-02T03:04:05Z",
            "metrics": {"val_loss": 0.25},
            "parts": parts,
        }
        return Manifest(**base | fields)

    return make


@pytest.fixture
def store_checkpoint(storage, make_manifest):
    """Writes a checkpoint's parts and manifest; returns the manifest."""

    def store(files: dict[str, bytes] | None = None, **changes) -> Manifest:
        files = files or {"model.pt": b"weights"}
        manifest = make_manifest(files, **changes)
        for part in manifest.parts:
            storage.write(part.key, files[part.name])
        storage.write(manifest.key, manifest.to_json())
        return manifest

    return store
