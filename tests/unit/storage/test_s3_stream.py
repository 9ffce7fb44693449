"""Streams over a client that breaks where it is told to."""

import io

import pytest

from trainyard_trainer.s3_stream import UPLOADS_IN_FLIGHT, S3Reader, S3Writer, Target


class ClientError(Exception):
    def __init__(self, code):
        self.response = {"Error": {"Code": code}}


class BrittleClient:
    """One object in memory; each connection breaks after `lives` bytes."""

    class exceptions:
        ClientError = ClientError

    def __init__(self, data=b"", lives=10**9, fail_part=None):
        self.data, self.lives, self.fail_part = data, lives, fail_part
        self.calls, self.parts = [], {}

    def get_object(self, Range="bytes=0-", **options):
        start = int(Range.removeprefix("bytes=").rstrip("-"))
        self.calls.append((start, options.get("IfMatch")))
        if start and start >= len(self.data):
            raise ClientError("InvalidRange")
        return {"Body": BrittleBody(self.data[start:], self.lives), "ETag": "e1"}

    def create_multipart_upload(self, **_):
        self.calls.append("create")
        return {"UploadId": "u"}

    def upload_part(self, PartNumber, Body, **_):
        if PartNumber == self.fail_part:
            raise OSError("broken")
        self.parts[PartNumber] = bytes(Body)
        return {"ETag": str(PartNumber)}

    def complete_multipart_upload(self, MultipartUpload, **_):
        self.calls.append("complete")
        numbers = [part["PartNumber"] for part in MultipartUpload["Parts"]]
        self.data = b"".join(self.parts[number] for number in numbers)

    def abort_multipart_upload(self, **_):
        self.calls.append("abort")

    def put_object(self, Body, **_):
        self.calls.append("put")
        self.data = Body


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
    with S3Reader(Target(client, "b", "k")) as reader:
        assert reader.read() == b"0123456789"
    assert client.calls == [(0, None), (4, "e1"), (8, "e1")]


def test_a_read_that_keeps_breaking_fails():
    client = BrittleClient(b"0123456789", lives=1)
    with pytest.raises(OSError, match="reset"), S3Reader(Target(client, "b", "k")) as reader:
        reader.read()
    assert len(client.calls) == 5


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
    with S3Writer(Target(client, "b", "k"), part_bytes=10) as writer:
        for start in range(0, size, 7):
            writer.write(data[start : start + 7])
    assert (client.calls, len(client.parts), client.data) == (calls, parts, data)


def test_a_failed_part_aborts_the_upload():
    client = BrittleClient(fail_part=2)
    target = Target(client, "b", "k")
    with pytest.raises(OSError, match="broken"), S3Writer(target, part_bytes=10) as writer:
        writer.write(bytes(100))
    assert client.calls == ["create", "abort"]


def test_a_writer_stops_early_where_parts_fail():
    client = BrittleClient(fail_part=1)
    with pytest.raises(OSError, match="broken"), S3Writer(Target(client, "b", "k"), 10) as writer:
        for _ in range(1000):
            writer.write(bytes(10))
    assert writer.size_bytes <= 10 * (UPLOADS_IN_FLIGHT + 2)
