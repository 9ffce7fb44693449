"""A program's checkpoint directory on real S3 servers, as a person lists and fetches it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.depot import Buckets, open_depots

from trainyard import cli
from trainyard_operator.layout import run_prefix
from trainyard_trainer.directory import scan, unit_of
from trainyard_trainer.directory_store import DirectoryStore, Reported
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage import READ_CHUNK_BYTES, Storage

BIG = bytes(range(256)) * (READ_CHUNK_BYTES // 256 * 3)


@pytest.fixture(params=["s3", "legacy"])
def depot(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Buckets]:
    """versitygw; legacy: it refuses conditional writes and batch deletes."""
    with open_depots(tmp_path) as depots:
        found = depots[request.param]
        assert isinstance(found, Buckets)
        yield found


@pytest.fixture
def storage(depot: Buckets, tmp_path: Path) -> Storage:
    """A run with two copies: steps 10 and 20."""
    storage = depot.open(tmp_path).child(run_prefix("default", "tune", "u1"))
    storage.write("run.json", b"{}")
    identity = Identity(namespace="default", job="tune", uid="u1", attempt=1)
    root, store = tmp_path / "work", DirectoryStore(storage, identity, keep_last=3)
    for step in (10, 20):
        (root / f"checkpoint-{step}").mkdir(parents=True)
        (root / f"checkpoint-{step}" / "weights").write_bytes(BIG + str(step).encode())
        listing = scan(root)
        assert store.save(root, listing, Reported(step), {unit_of(path) for path in listing})
    return storage


@pytest.mark.usefixtures("storage")
def test_copies_are_listed_and_fetched_byte_by_byte(
    flags: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["checkpoints", "tune", "--verify", "-o", "json", *flags]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["copy"], one["step"], one["verified"]) for one in listed] == [
        ("a1/2", 20, "yes"),
        ("a1/1", 10, "yes"),
    ]
    assert cli.run(["fetch", "tune", "-d", str(tmp_path / "out"), *flags]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == tmp_path / "out" / "copy-a1-2"
    for step in (10, 20):
        assert (folder / f"checkpoint-{step}/weights").read_bytes() == BIG + str(step).encode()


def test_a_spoilt_byte_names_copy_and_file_and_what_to_fetch_instead(
    storage: Storage, flags: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = "directory/a1/000002/00001"
    data = bytearray(storage.read(key))
    data[len(data) // 2] ^= 1
    storage.delete([key])
    storage.write(key, bytes(data))
    assert cli.run(["fetch", "tune", "20", "-d", str(tmp_path / "out"), *flags]) == 12
    assert capsys.readouterr().err == (
        "error: Checkpoint directory: copy 2 of attempt 1 is corrupt: 'checkpoint-20/weights' "
        "differs from its SHA-256\nhelp: trainyard fetch tune a1/1\n"
    )
    assert list((tmp_path / "out").iterdir()) == []
    assert cli.run(["fetch", "tune", "a1/1", "-d", str(tmp_path / "out"), *flags]) == 0
    assert (tmp_path / "out/copy-a1-1/checkpoint-10/weights").read_bytes() == BIG + b"10"


@pytest.fixture
def flags(depot: Buckets, tmp_path: Path) -> list[str]:
    """Where to look, on the command line."""
    spec = depot.spec(tmp_path)
    return ["--storage", spec["uri"], "--endpoint", spec["endpoint"], "--quiet"]
