"""Whoever wrote how many parts, a reader puts the state together again."""

import hashlib
import io

import pytest
import torch

from trainyard_trainer.checkpoint import load_latest
from trainyard_trainer.manifest import Manifest, Part

PREFIX = "checkpoints/step-000000000001-a1"
STATE = {
    "model": {"a": 1, "b": 2, "c": 3},
    "optimizer": {"state": {0: {"m": 1.0}, 1: {"m": 2.0}, 2: {"m": 3.0}}, "groups": [{"lr": 0.1}]},
}


def store(storage, contents: dict[str, dict]) -> None:
    parts = []
    for number, (name, content) in enumerate(contents.items()):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data, key = buffer.getvalue(), f"{PREFIX}/{name}"
        storage.write(key, data)
        digest = hashlib.sha256(data).hexdigest()
        parts.append(Part(key=key, size_bytes=len(data), sha256=digest, rank=number))
    manifest = Manifest(
        job="j",
        namespace="n",
        uid="u",
        attempt=1,
        step=1,
        epoch=0,
        world_size=len(contents),
        created_at="2026-01-01T00:00:00Z",
        parts=tuple(parts),
    )
    storage.write(manifest.key, manifest.to_json())


def split(count: int) -> dict[str, dict]:
    """The leaves of STATE dealt out over `count` parts."""
    shares: list[dict] = [{"model": {}, "optimizer": {"state": {}}} for _ in range(count)]
    for number, (key, value) in enumerate(STATE["model"].items()):
        shares[number % count]["model"][key] = value
    for number, (key, value) in enumerate(STATE["optimizer"]["state"].items()):
        shares[(number + 1) % count]["optimizer"]["state"][key] = value
    shares[-1]["optimizer"]["groups"] = STATE["optimizer"]["groups"]
    return {f"part-{i}.pt": {"shared": s, "rank": {"n": i}} for i, s in enumerate(shares)}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_parts_makes_the_same_state(storage, count):
    store(storage, split(count))
    loaded = load_latest(storage)
    assert (loaded.state, loaded.rank_state) == (STATE, {"n": 0})
