"""The tests' own proxy: what it lets through is right, and what it breaks is broken."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from cluster.s3 import S3, S3Access
from faults.s3_actions import (
    answer,
    call,
    call_after,
    cut,
    cut_request,
    cut_response,
    delay,
    hang,
    ignore_conditions,
    lose_response,
    refuse_batch_delete,
    refuse_checksums,
    refuse_conditions,
    throttle,
)
from faults.s3_proxy import S3Proxy
from integration.bucket import BUCKET

MIB = 2**20
NAME = {"Bucket": BUCKET, "Key": "runs/a b+c/part-0.pt"}


@pytest.fixture
def proxy(server: Any) -> Iterator[S3Proxy]:
    with S3Proxy(server) as proxy:
        yield proxy
    direct = client_of(server)
    for entry in direct.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        direct.delete_object(Bucket=BUCKET, Key=entry["Key"])


@pytest.fixture
def client(proxy: S3Proxy) -> Any:
    return client_of(proxy.access)


def client_of(access: S3Access, patience: float = 20) -> Any:
    """Without retries: a fault shows. patience: seconds of silence."""
    return access.client(config=Config(retries={"total_max_attempts": 1}, read_timeout=patience))


def stored(server: Any) -> bytes | None:
    """What the server itself holds."""
    try:
        return client_of(server).get_object(**NAME)["Body"].read()
    except ClientError:
        return None


def refusal(call: Any, *arguments: Any, **named: Any) -> tuple[int, str]:
    """Status and code of the error."""
    with pytest.raises(ClientError) as caught:
        call(*arguments, **named)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_what_no_rule_takes_passes(client: Any, proxy: S3Proxy) -> None:
    data = random.Random(0).randbytes(6 * MIB)
    upload = client.create_multipart_upload(**NAME)["UploadId"]
    parts = []
    for number in (1, 2):
        done = client.upload_part(**NAME, UploadId=upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": done["ETag"]})
    client.complete_multipart_upload(**NAME, UploadId=upload, MultipartUpload={"Parts": parts})
    assert client.get_object(**NAME)["Body"].read() == data * 2
    assert client.get_object(**NAME, Range="bytes=5-9")["Body"].read() == data[5:10]
    assert client.head_object(**NAME)["ContentLength"] == 12 * MIB
    assert len(client.list_objects_v2(Bucket=BUCKET)["Contents"]) == 1
    client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": NAME["Key"]}]})
    assert refusal(client.get_object, **NAME) == (404, "NoSuchKey")
    assert proxy.counts == {
        "CreateMultipartUpload": 1,
        "UploadPart": 2,
        "CompleteMultipartUpload": 1,
        "GetObject": 3,
        "HeadObject": 1,
        "ListObjectsV2": 1,
        "DeleteObjects": 1,
    }


def test_errors_come_as_often_as_asked(client: Any, proxy: S3Proxy, server: Any) -> None:
    rule = proxy.add(answer(503, "SlowDown"), operation="PutObject", key="*.pt", skip=1, times=1)
    client.put_object(**NAME, Body=b"one")
    assert refusal(client.put_object, **NAME, Body=bytes(MIB)) == (503, "SlowDown")
    assert stored(server) == b"one"
    client.put_object(**NAME, Body=b"two")
    assert (rule.hits, stored(server), proxy.count("PutObject")) == (1, b"two", 3)


def test_a_rule_of_a_block_ends_with_it(client: Any, proxy: S3Proxy) -> None:
    with proxy.during(answer(400, "ExpiredToken"), key="runs/*"):
        assert refusal(client.put_object, **NAME, Body=b"one") == (400, "ExpiredToken")
        assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    client.put_object(**NAME, Body=b"one")


def test_silence_runs_into_the_clients_timeout(proxy: S3Proxy, server: Any) -> None:
    with proxy.during(hang()), pytest.raises(ReadTimeoutError):
        client_of(proxy.access, patience=1).put_object(**NAME, Body=b"one")
    assert stored(server) is None


@pytest.mark.parametrize("action", [delay(0.25), throttle(4 * MIB)])
def test_slowness_is_as_asked(client: Any, proxy: S3Proxy, action: Any) -> None:
    proxy.add(action)
    began = time.monotonic()
    client.put_object(**NAME, Body=bytes(MIB))
    assert 0.25 <= time.monotonic() - began < 5


@pytest.mark.parametrize("action", [cut(), cut_request(100_000)])
def test_a_broken_request_stores_nothing(
    client: Any, proxy: S3Proxy, server: Any, action: Any
) -> None:
    proxy.add(action)
    with pytest.raises(HTTPClientError):
        client.put_object(**NAME, Body=bytes(MIB))
    assert stored(server) is None


def test_a_broken_answer_has_its_first_bytes(client: Any, proxy: S3Proxy) -> None:
    client.put_object(**NAME, Body=bytes(MIB))
    proxy.add(cut_response(1000), operation="GetObject", times=1)
    body = client.get_object(**NAME)["Body"]
    assert len(body.read(1000)) == 1000
    with pytest.raises((IncompleteReadError, ResponseStreamingError, OSError)):
        body.read()
    assert len(client.get_object(**NAME)["Body"].read()) == MIB


def test_a_lost_answer_is_of_something_done(client: Any, proxy: S3Proxy, server: Any) -> None:
    proxy.add(lose_response(), operation="PutObject")
    with pytest.raises(ConnectionClosedError):
        client.put_object(**NAME, Body=b"one")
    assert stored(server) == b"one"


def test_a_test_is_called_before_and_after(client: Any, proxy: S3Proxy, server: Any) -> None:
    seen: list[Any] = []
    proxy.add(call(lambda request: seen.append((request.key, stored(server)))), times=1)
    client.put_object(**NAME, Body=b"one")
    proxy.add(call_after(lambda request: seen.append((request.key, stored(server)))), times=1)
    client.put_object(**NAME, Body=b"two")
    assert seen == [(NAME["Key"], None), (NAME["Key"], b"two")]


def test_a_server_that_ignores_conditions_overwrites(
    client: Any, proxy: S3Proxy, server: Any
) -> None:
    client.put_object(**NAME, Body=b"one", IfNoneMatch="*")
    expected = (412, "PreconditionFailed")
    assert refusal(client.put_object, **NAME, Body=b"two", IfNoneMatch="*") == expected
    ignore_conditions(proxy)
    client.put_object(**NAME, Body=b"two", IfNoneMatch="*")
    assert stored(server) == b"two"


def test_old_servers_refuse_what_they_do_not_know(client: Any, proxy: S3Proxy) -> None:
    for lack in (refuse_conditions, refuse_checksums, refuse_batch_delete):
        lack(proxy)
    put = client.put_object
    missing = {"Objects": [{"Key": "a"}]}
    assert refusal(put, **NAME, Body=b"", ChecksumAlgorithm="CRC32") == (400, "InvalidArgument")
    assert refusal(put, **NAME, Body=b"", IfNoneMatch="*")[1] in (
        "NotImplemented",
        "InvalidArgument",
    )
    assert refusal(client.delete_objects, Bucket=BUCKET, Delete=missing) == (501, "NotImplemented")


def test_a_server_that_is_gone_ends_the_connection(tmp_path: Any) -> None:
    s3 = S3(tmp_path / "s3")
    with S3Proxy(s3.start()) as proxy:
        s3.stop()
        with pytest.raises(ConnectionClosedError):
            client_of(proxy.access).list_objects_v2(Bucket=BUCKET)
