"""Streams over a client that breaks where it is told to."""

import io
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from trainyard_trainer.s3_stream import (
    RANGES_IN_FLIGHT,
    READ_RETRIES,
    UPLOADS_IN_FLIGHT,
    S3Reader,
    S3Writer,
    Target,
)


class BrittleClient:
    """One object in memory; each connection breaks after `lives` bytes."""

    def __init__(self, data=b"", lives=10**9, fail_part=None):
        self.data, self.lives, self.fail_part = data, lives, fail_part
        self.lose_completion, self.metadata = False, {}
        self.calls, self.parts = [], {}

    def get_object(self, Range, **options):
        start, last = map(int, Range.removeprefix("bytes=").split("-"))
        self.calls.append((start, options.get("IfMatch")))
        if start >= len(self.data):
            raise ClientError({"Error": {"Code": "InvalidRange"}}, "GetObject")
        data = self.data[start : last + 1]
        return {
            "Body": BrittleBody(data, self.lives),
            "ETag": "e1",
            "ContentLength": len(data),
            "ContentRange": f"bytes {start}-{last}/{len(self.data)}",
        }

    def create_multipart_upload(self, Metadata, **_):
        self.metadata = Metadata
        self.calls.append("create")
        return {"UploadId": "u"}

    def upload_part(self, PartNumber, Body, **_):
        if PartNumber == self.fail_part:
            raise OSError("broken")
        self.parts[PartNumber] = bytes(Body)
        return {"ETag": str(PartNumber)}

    def head_object(self, **_):
        return {"Metadata": self.metadata, "ContentLength": len(self.data)}

    def complete_multipart_upload(self, MultipartUpload, **_):
        self.calls.append("complete")
        numbers = [part["PartNumber"] for part in MultipartUpload["Parts"]]
        self.data = b"".join(self.parts[number] for number in numbers)
        if self.lose_completion:
            raise OSError("connection reset")

    def abort_multipart_upload(self, **_):
        self.calls.append("abort")

    def put_object(self, Body, **_):
        self.calls.append("put")
        self.data = bytes(Body)


def target_of(client):
    return Target(SimpleNamespace(client=client, brief_client=client), "b", "k")


class BrittleBody(io.BytesIO):
    def __init__(self, data, lives):
        super().__init__(data)
        self._lives = lives

    def read(self, size=-1):
        if self.tell() >= self._lives:
            raise OSError("connection reset")
        return super().read(min(size, self._lives - self.tell()))


def test_a_broken_read_goes_on_where_it_was():
    client = BrittleClient(b"0123456789", lives=4)
    with S3Reader(target_of(client)) as reader:
        assert reader.read() == b"0123456789"
    assert client.calls == [(0, None), (4, "e1"), (8, "e1")]


def test_a_read_that_keeps_breaking_fails():
    client = BrittleClient(b"0123456789", lives=1)
    with pytest.raises(OSError, match="reset"), S3Reader(target_of(client)) as reader:
        reader.read()
    assert len(client.calls) == READ_RETRIES + 1


@pytest.mark.parametrize("lives", [3, 10**9])
@pytest.mark.parametrize("offset", [0, 7, 16, 17, 18, 100])
@pytest.mark.parametrize("size", [1, 5, 10**6, -1])
def test_ranges_join(lives, offset, size):
    data = bytes(range(17))
    with S3Reader(target_of(BrittleClient(data, lives)), offset, range_bytes=8) as reader:
        pieces = [reader.read()] if size < 0 else list(iter(lambda: reader.read(size), b""))
    assert b"".join(pieces) == data[offset:]


def test_few_ranges_are_held():
    client = BrittleClient(bytes(1000))
    with S3Reader(target_of(client), range_bytes=10) as reader:
        reader.read(10)
        reader.read(10)
    assert len(client.calls) <= 3 + RANGES_IN_FLIGHT


@pytest.mark.parametrize(
    ("size", "calls", "parts"),
    [
        (0, ["put"], 0),
        (10, ["put"], 0),
        (11, ["create", "complete"], 2),
        (95, ["create", "complete"], 10),
    ],
)
def test_parts_are_as_many_as_needed(size, calls, parts):
    client, data = BrittleClient(), bytes(range(size))
    with S3Writer(target_of(client), part_bytes=10) as writer:
        for start in range(0, size, 7):
            writer.write(data[start : start + 7])
    assert (client.calls, len(client.parts), client.data) == (calls, parts, data)


def test_a_failed_part_aborts_the_upload():
    client = BrittleClient(fail_part=2)
    target = target_of(client)
    with pytest.raises(OSError, match="broken"), S3Writer(target, part_bytes=10) as writer:
        writer.write(bytes(100))
    assert client.calls == ["create", "abort"]


def test_a_writer_stops_early_where_parts_fail():
    client = BrittleClient(fail_part=1)
    with pytest.raises(OSError, match="broken"), S3Writer(target_of(client), 10) as writer:
        for _ in range(1000):
            writer.write(bytes(10))
    assert writer.size_bytes <= 10 * (UPLOADS_IN_FLIGHT + 2)


def test_a_writer_knows_its_own_object_where_the_answer_was_lost():
    client, data = BrittleClient(), bytes(range(25))
    client.lose_completion = True
    with S3Writer(target_of(client), part_bytes=10) as writer:
        writer.write(data)
    assert (writer.size_bytes, client.data, client.calls) == (25, data, ["create", "complete"])


def test_another_writers_object_is_not_taken_for_ones_own():
    client = BrittleClient()
    client.lose_completion = True
    with pytest.raises(OSError, match="reset"), S3Writer(target_of(client), 10) as writer:
        writer.write(bytes(25))
        client.metadata = {"trainyard-writer": "another"}
    assert client.calls == ["create", "complete", "abort"]
