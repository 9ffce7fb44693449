import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainyard_trainer.manifest import (
    Best,
    Manifest,
    Part,
    best_of,
    list_manifests,
    select_best,
    verify,
)
from trainyard_trainer.storage_errors import CheckpointCorrupt, ManifestInvalid

PREFIX = "checkpoints/step-000000000500-a2"


def test_a_manifest_has_one_text(make_manifest):
    text = make_manifest().to_json()
    body = json.loads(text)
    assert body.pop("digest") == make_manifest().digest
    assert body == {
        "attempt": 2,
        "best": None,
        "config_hash": "",
        "created_at": "2026-01-02T03:04:05Z",
        "cursor": 0,
        "epoch": 3,
        "format": 1,
        "job": "nodules",
        "metrics": {"val_loss": 0.25},
        "namespace": "research",
        "parts": [
            {
                "key": f"{PREFIX}/model.pt",
                "rank": 0,
                "sha256": hashlib.sha256(b"weights").hexdigest(),
                "size_bytes": 7,
            }
        ],
        "samples_seen": 0,
        "stage": "",
        "step": 500,
        "uid": "u-1",
        "world_size": 1,
    }
    assert Manifest.from_json(text).to_json() == text


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_every_flipped_byte_or_truncation_of_a_manifest_is_found(data):
    text = MANIFEST.to_json()
    at = data.draw(st.integers(0, len(text) - 1))
    if data.draw(st.booleans()):
        broken = text[:at]
    else:
        flipped = text[at] ^ data.draw(st.integers(1, 255))
        broken = text[:at] + bytes([flipped]) + text[at + 1 :]
    with pytest.raises(ManifestInvalid):
        Manifest.from_json(broken)


MANIFEST = Manifest(
    job="nodules",
    namespace="research",
    uid="u-1",
    attempt=2,
    step=500,
    epoch=3,
    world_size=2,
    created_at="2026-01-02T03:04:05Z",
    metrics={"val_loss": 0.1, "ré\tcall": 1e300},
    best=Best(metric="val_loss"),
    parts=tuple(
        Part(key=f"{PREFIX}/part-{rank}.pt", size_bytes=3, sha256="ab" * 32, rank=rank)
        for rank in range(2)
    ),
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body | {"format": 2}, "its format is 2, not 1"),
        (lambda body: body | {"step": 501}, "content: Value error, part"),
        (lambda body: body | {"epoch": 4}, "it differs from its own digest"),
        (lambda body: body | {"extra": 4}, "extra: Extra inputs are not permitted"),
        (lambda body: body | {"epoch": "4"}, "epoch: Input should be a valid integer"),
        (lambda body: body | {"parts": []}, "parts: Tuple should have at least 1 item"),
        (lambda body: {k: v for k, v in body.items() if k != "digest"}, "it differs from its own"),
    ],
    ids=["format", "step", "value", "unknown", "type", "parts", "no digest"],
)
def test_a_changed_manifest_is_refused_and_says_why(change, reason):
    body = change(json.loads(MANIFEST.to_json()))
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ManifestInvalid) as caught:
        Manifest.from_json(text, "k")
    assert str(caught.value).startswith(f"Manifest 'k' cannot be used: {reason}")


@pytest.mark.parametrize("name", ["../x.pt", "x/y.pt", ".pt", "x.sh", "manifest.json"])
def test_a_part_lies_in_its_checkpoint(make_manifest, name):
    with pytest.raises(ValidationError):
        make_manifest({name: b""})


def test_manifests_are_listed_newest_first(storage, store_checkpoint):
    for step, attempt in ((1000, 1), (500, 2), (500, 1), (1500, 2), (2000, 1)):
        store_checkpoint(step=step, attempt=attempt)
    listing = list_manifests(storage)
    assert [(m.step, m.attempt) for m in listing.valid] == [
        (2000, 1),
        (1500, 2),
        (1000, 1),
        (500, 2),
        (500, 1),
    ]
    assert listing.rejected == ()


def test_an_unreadable_manifest_is_reported(storage, store_checkpoint):
    good, bad = store_checkpoint(step=1), store_checkpoint(step=2)
    storage.write(bad.key, bad.to_json()[:-1])
    listing = list_manifests(storage)
    assert listing.valid == (good,)
    assert [(r.key, r.reason) for r in listing.rejected] == [
        (bad.key, f"Manifest '{bad.key}' cannot be used: it is no JSON.")
    ]


def test_a_manifest_in_the_wrong_place_is_reported(storage, store_checkpoint):
    good = store_checkpoint(step=1)
    storage.write("checkpoints/step-000000000009-a1/manifest.json", good.to_json())
    listing = list_manifests(storage)
    assert listing.valid == (good,)
    assert "it belongs at" in listing.rejected[0].reason


def test_parts_without_a_manifest_are_no_checkpoint(storage):
    storage.write("checkpoints/step-000000000009-a1/model.pt", b"x")
    storage.write("checkpoints/latest.json", b"x")
    assert list_manifests(storage).valid == ()


@pytest.mark.parametrize(("mode", "step"), [("min", 2), ("max", 1)])
def test_the_best_is_the_earliest_of_equals(make_manifest, mode, step):
    losses = {1: 0.9, 2: 0.1, 3: 0.1, 4: 0.9}
    manifests = [make_manifest(step=s, metrics={"loss": v}) for s, v in losses.items()]
    best = select_best([*manifests, make_manifest(step=5, metrics={})], "loss", mode)
    assert best is not None
    assert best.step == step


def test_the_best_is_by_what_the_run_last_went_by(make_manifest):
    manifests = [
        make_manifest(step=2, metrics={"auc": 0.8}, best=Best(metric="auc", mode="max")),
        make_manifest(step=1, metrics={"auc": 0.9}, best=Best(metric="loss")),
    ]
    assert best_of(manifests) == manifests[1]
    assert best_of([]) is None
    assert best_of([make_manifest()]) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"weighty", "model.pt differs from its SHA-256"),
        (b"weight", "model.pt has 6 of its 7 bytes"),
        (b"weights!", "model.pt has more than its 7 bytes"),
        (None, "model.pt is missing"),
    ],
    ids=["flipped", "short", "long", "missing"],
)
def test_verify_names_the_part(storage, store_checkpoint, data, problem):
    manifest = store_checkpoint()
    verify(storage, manifest)
    key = manifest.parts[0].key
    storage.delete([key]) if data is None else storage.write(key, data)
    with pytest.raises(CheckpointCorrupt) as caught:
        verify(storage, manifest)
    assert str(caught.value) == f"Checkpoint step 500 is corrupt: {problem}."
