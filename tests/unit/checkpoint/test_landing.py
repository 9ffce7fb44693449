"""What lies between storage and torch.load."""

import hashlib
import os
from pathlib import Path

import pytest
import torch
from unit.checkpoint.test_retention import make_manifest

from trainyard_trainer.landing import land, parse
from trainyard_trainer.manifest import Part
from trainyard_trainer.storage_errors import CheckpointCorrupt

MANIFEST = make_manifest(1)
DATA = bytes(range(256)) * 40


def part_of(data: bytes, name: str = "model.pt") -> Part:
    digest = hashlib.sha256(data).hexdigest()
    return Part(key=f"{MANIFEST.prefix}/{name}", size_bytes=len(data), sha256=digest, rank=0)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("size", [1, 1000, len(DATA)])
def test_bytes_arrive_in_whatever_pieces_they_come(size):
    pieces = [DATA[start : start + size] for start in range(0, len(DATA), size)]
    landing = land(MANIFEST, part_of(DATA), pieces)
    assert landing.read() == Path(landing.address).read_bytes() == DATA
    landing.close()


def test_what_was_verified_cannot_be_changed_through_any_door():
    landing = land(MANIFEST, part_of(DATA), [DATA])
    with pytest.raises(OSError, match="Operation not permitted"):
        landing.write(b"more")
    with pytest.raises(PermissionError), Path(landing.address).open("r+b") as file:
        file.write(b"?")
    with pytest.raises(PermissionError):
        os.truncate(landing.address, 1)
    assert landing.read() == DATA
    landing.close()


@pytest.mark.parametrize(
    ("pieces", "problem"),
    [
        ([DATA[:-1] + b"?"], "differs from its SHA-256"),
        ([DATA[:-1]], f"has {len(DATA) - 1} of its {len(DATA)} bytes"),
        ([DATA, b"?"], f"has more than its {len(DATA)} bytes"),
        ([b"?", DATA, DATA], f"has more than its {len(DATA)} bytes"),
        ([], f"has 0 of its {len(DATA)} bytes"),
    ],
)
def test_other_bytes_are_refused_and_leave_nothing_open(pieces, problem):
    before = open_files()
    with pytest.raises(CheckpointCorrupt, match=f"model.pt {problem}"):
        land(MANIFEST, part_of(DATA), pieces)
    assert open_files() == before


def test_broken_connection_leaves_nothing_open():
    def pieces():
        yield DATA
        raise ConnectionResetError

    before = open_files()
    with pytest.raises(ConnectionResetError):
        land(MANIFEST, part_of(DATA), pieces())
    assert open_files() == before


@pytest.mark.parametrize("name", ["model.pt", "part-0.pt"])
def test_tensors_outlive_the_memory_and_may_be_written(tmp_path, name):
    torch.save({"w": torch.arange(10.0)}, tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    part = part_of(data, name)
    landing = land(MANIFEST, part, [data])
    content, other = (parse(MANIFEST, part, landing.address) for _ in range(2))
    landing.close()
    content["w"] += 1
    assert content["w"].tolist() == [float(number + 1) for number in range(10)]
    assert other["w"].tolist() == list(map(float, range(10)))


def test_what_is_no_archive_of_tensors_is_corrupt():
    landing = land(MANIFEST, part_of(DATA), [DATA])
    with pytest.raises(CheckpointCorrupt, match=r"model\.pt cannot be loaded"):
        parse(MANIFEST, part_of(DATA), landing.address)
    landing.close()
