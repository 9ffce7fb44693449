"""The checkpoint directory of a program, listed and fetched from storage alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.sdk import JobHandle
from trainyard_operator.layout import run_prefix
from trainyard_trainer.directory import scan, unit_of
from trainyard_trainer.directory_manifest import DirectoryManifest
from trainyard_trainer.directory_restore import restore
from trainyard_trainer.directory_store import DirectoryStore, Reported
from trainyard_trainer.manifest import Best
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage import Storage, open_storage

Save = Callable[..., DirectoryManifest]
LOSS = {"metric": "loss", "mode": "min"}


@pytest.fixture
def storage(place: Path) -> Storage:
    """Of a program's run."""
    return open_run(place, {"keepBest": LOSS})


def open_run(place: Path, checkpoint: dict) -> Storage:
    storage = open_storage((place / "bucket").as_uri()).child(run_prefix("default", "tune", "u1"))
    record = {"request": {"recipe": "", "checkpoint": checkpoint}}
    storage.write("run.json", json.dumps(record).encode())
    return storage


@pytest.fixture
def save(storage: Storage, place: Path) -> Save:
    """Write a file of weights beside one that stays, and copy both."""
    root, stores = place / "work", {}
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "tokens").write_bytes(b"never changes")

    def save(step: int | None, attempt: int = 1, **metrics: float) -> DirectoryManifest:
        identity = Identity(namespace="default", job="tune", uid="u1", attempt=attempt)
        if attempt not in stores:
            stores[attempt] = DirectoryStore(storage, identity, 9, Best(**LOSS))
        (root / "weights").write_bytes(b"weights" * 1000 + str(step).encode())
        listing, reported = scan(root), Reported(step, metrics=metrics)
        manifest = stores[attempt].save(root, listing, reported, {unit_of(p) for p in listing})
        assert manifest is not None
        return manifest

    return save


def flip(place: Path, manifest: DirectoryManifest, path: str) -> Path:
    """One byte of one stored file; returns where it lies."""
    key = next(file.key for file in manifest.files if file.path == path)
    (stored,) = (place / "bucket").rglob(key)
    data = bytearray(stored.read_bytes())
    data[3] ^= 1
    stored.write_bytes(data)
    return stored


def test_copies_are_listed_with_the_best_the_latest_and_those_set_aside(
    trainyard, save: Save, storage: Storage, place: Path
) -> None:
    save(10, loss=0.2)
    spoilt = save(20, loss=0.3)
    flip(place, spoilt, "weights")
    restore(storage, place / "restored", before=2, set_aside=True)
    save(30, attempt=2, loss=0.25)
    ran = trainyard("checkpoints", "tune", "--storage", "bucket", "--verify")
    lines = [line.split() for line in ran.out.splitlines()]
    assert (ran.code, ran.err, lines[0]) == (
        0,
        "",
        ["COPY", "STEP", "EPOCH", "METRICS", "FILES", "SIZE", "AGE", "KEPT", "AS", "VERIFIED"],
    )
    assert [[*line[:4], *line[7:]] for line in lines[1:]] == [
        ["a2/1", "30", "loss=0.25", "2", "latest", "yes"],
        ["a1/1", "10", "loss=0.2", "2", "best", "yes"],
        ["a1/2", "20", "loss=0.3", "2", "set", "aside", "no"],
    ]
    best = trainyard("checkpoints", "tune", "--storage", "bucket", "--best", "-o", "name")
    assert best.out == "a1/1\n"


def test_copies_are_a_document_for_a_program(trainyard, save: Save, place: Path) -> None:
    saved = save(10, loss=0.2)
    (found,) = json.loads(trainyard("checkpoints", "tune", "--storage", "bucket", "-o", "json").out)
    assert found == {
        "copy": "a1/1",
        "step": 10,
        "epoch": None,
        "attempt": 1,
        "sequence": 1,
        "uri": f"{place.as_uri()}/bucket/default/tune/u1/directory/a1/000001",
        "files": 2,
        "bytes": saved.size_bytes,
        "time": saved.created_at,
        "metrics": {"loss": 0.2},
        "keptAs": ["best", "latest"],
        "verified": "sizes",
    }


def test_fetch_brings_the_best_copy_with_its_times(trainyard, save: Save, place: Path) -> None:
    save(10, loss=0.2)
    save(20, loss=0.3)
    ran = trainyard("fetch", "tune", "--storage", "bucket")
    assert (ran.code, ran.out, ran.err) == (0, "tune/copy-a1-1\n", "")
    assert Path("tune/copy-a1-1/weights").read_bytes() == b"weights" * 1000 + b"10"
    times = [
        (folder / "deep/tokens").stat().st_mtime_ns
        for folder in (place / "work", Path("tune/copy-a1-1"))
    ]
    assert times[0] == times[1]
    assert [path.name for path in Path("tune").iterdir()] == ["copy-a1-1"]


@pytest.mark.parametrize(
    "which, folder",
    [
        ("latest", "copy-a1-2"),
        ("10", "copy-a1-1"),
        ("a1/1", "copy-a1-1"),
        ("a1/000002", "copy-a1-2"),
    ],
)
def test_a_copy_is_named_by_step_or_by_attempt_and_number(
    trainyard, save: Save, which: str, folder: str
) -> None:
    save(10, loss=0.2)
    save(None)
    ran = trainyard("fetch", "tune", which, "--storage", "bucket", "--what", "directory", "-d", "x")
    assert (ran.code, ran.out) == (0, f"x/{folder}\n")


def test_without_keep_best_the_latest_is_fetched_and_none_is_best(
    trainyard, place: Path, save: Save
) -> None:
    open_run(place, {})
    save(10, loss=0.2)
    save(None)
    assert trainyard("fetch", "tune", "--storage", "bucket").out == "tune/copy-a1-2\n"
    ran = trainyard("fetch", "tune", "best", "--storage", "bucket")
    assert (ran.code, ran.err) == (
        12,
        "error: 'tune' sets no checkpoint.keepBest, so that no copy is best; it has a1/2, a1/1 "
        "(step 10)\nhelp: trainyard checkpoints tune\n",
    )


def test_a_flipped_byte_names_copy_and_file_and_a_copy_without_it(
    trainyard, save: Save, place: Path
) -> None:
    save(10, loss=0.3)
    flip(place, save(20, loss=0.2), "weights")
    ran = trainyard("fetch", "tune", "--storage", "bucket")
    assert (ran.code, ran.out, ran.err) == (
        12,
        "",
        "error: Checkpoint directory: copy 2 of attempt 1 is corrupt: 'weights' differs from its "
        "SHA-256\nhelp: trainyard fetch tune a1/1\n",
    )
    assert list(Path("tune").iterdir()) == []
    listed = trainyard("checkpoints", "tune", "--storage", "bucket", "--verify")
    assert listed.code == 12
    assert "no: weights differs from its SHA-256" in listed.out
    assert listed.err == (
        "error: 1 of 2 checkpoints of tune cannot be used\n"
        "help: trainyard checkpoints tune --verify\n"
    )


def test_no_copy_is_recommended_that_shares_the_spoilt_file(
    trainyard, save: Save, place: Path
) -> None:
    save(10)
    flip(place, save(20), "deep/tokens")
    ran = trainyard("fetch", "tune", "--storage", "bucket")
    assert (ran.code, ran.err) == (
        12,
        "error: Checkpoint directory: copy 2 of attempt 1 is corrupt: 'deep/tokens' differs from "
        "its SHA-256; no other copy has another 'deep/tokens'\n",
    )


def test_a_file_that_is_gone_shows_without_reading_any(trainyard, save: Save, place: Path) -> None:
    flip(place, save(10), "weights").unlink()
    ran = trainyard("checkpoints", "tune", "--storage", "bucket")
    assert ran.code == 12
    assert "no: weights missing or cut off" in ran.out


def test_an_interrupted_fetch_reads_only_what_is_not_there(
    trainyard, save: Save, place: Path
) -> None:
    saved = save(10)
    partial = Path("tune/copy-a1-1.partial/deep")
    partial.mkdir(parents=True)
    (partial / "tokens").write_bytes(b"never changes")
    (partial.parent / "weights").write_bytes(b"half")
    flip(place, saved, "deep/tokens")  # Nobody reads it again.
    assert trainyard("fetch", "tune", "--storage", "bucket").code == 0
    assert Path("tune/copy-a1-1/weights").read_bytes() == b"weights" * 1000 + b"10"
    assert not partial.exists()


def test_a_second_fetch_finds_the_copy_there_and_never_replaces_a_changed_one(
    trainyard, save: Save
) -> None:
    save(10)
    for _ in range(2):
        assert trainyard("fetch", "tune", "--storage", "bucket").out == "tune/copy-a1-1\n"
    Path("tune/copy-a1-1/weights").write_bytes(b"my own")
    ran = trainyard("fetch", "tune", "--storage", "bucket")
    assert (ran.code, ran.err) == (
        1,
        "error: 'tune/copy-a1-1' is there and is not copy 1 of attempt 1: 'weights' differs; move "
        "it away, or name another folder.\n",
    )
    assert Path("tune/copy-a1-1/weights").read_bytes() == b"my own"


def test_a_copy_that_retention_deletes_under_the_reader_is_not_called_corrupt(
    trainyard, save: Save, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainyard import copies

    first = save(10)
    save(20)
    read = copies.read_copies

    def read_and_lose(run):
        catalogue = read(run)
        storage.delete([first.key, *(f.key for f in first.files if f.path == "weights")])
        return catalogue

    monkeypatch.setattr(copies, "read_copies", read_and_lose)
    ran = trainyard("fetch", "tune", 10, "--storage", "bucket")
    assert (ran.code, ran.err) == (
        12,
        "error: 'tune' deleted copy 1 of attempt 1 meanwhile, since it has newer ones\n"
        "help: trainyard fetch tune latest\n",
    )


def test_a_manifest_that_cannot_be_believed_is_told(trainyard, save: Save, place: Path) -> None:
    (path,) = (place / "bucket").rglob(save(10).key)
    path.write_bytes(path.read_bytes().replace(b"weights", b"weighty"))
    ran = trainyard("checkpoints", "tune", "--storage", "bucket")
    assert (ran.out, ran.err) == (
        "",
        "tune has saved no checkpoint yet; they will lie at "
        f"{place.as_uri()}/bucket/default/tune/u1\n"
        "set aside: Manifest 'directory/a1/000001/manifest.json' cannot be used: it differs from "
        "its own digest.\n",
    )


def test_the_sdk_lists_and_fetches_copies_of_a_job(save: Save, place: Path) -> None:
    from trainyard.jobs import Job

    save(10, loss=0.2)
    save(20, loss=0.3)
    spec = {"storage": {"uri": (place / "bucket").as_uri()}, "checkpoint": {"keepBest": LOSS}}
    job = JobHandle(Job({"metadata": {"name": "tune", "uid": "u1"}, "spec": spec}))
    assert [(one.step, one.metrics) for one in job.checkpoints] == [
        (20, {"loss": 0.3}),
        (10, {"loss": 0.2}),
    ]
    assert job.checkpoints.best.fetch("models") == Path("models/copy-a1-1")


def test_neither_torch_nor_boto3_is_loaded_for_copies_in_a_folder(save: Save) -> None:
    save(10)
    code = (
        "import sys; from trainyard.cli import run; "
        "code = run(['fetch', 'tune', '--storage', 'bucket']); "
        "print(code, [name for name in ('torch', 'boto3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "tune/copy-a1-1\n0 []\n"
