"""One S3 client in a process of its own, that moves 500 MB whenever it is told to.

    python s3_client.py NAME ENDPOINT       then lines `upload KEY`, `download KEY`, `resume KEY`

Credentials come from the environment. Each answer is a line of JSON: seconds, and by how much the
process grew meanwhile, beyond what it held before.
"""

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

BUCKET = "bench"
SIZE_BYTES = 500_000_000
PIECE_BYTES = 16 * 2**20
"""Archives of tensors are written in pieces of about this size."""
REGION = "us-east-1"


@dataclass(frozen=True)
class Client:
    """What is measured."""

    upload: Callable[[str, bytes], object]
    download: Callable[[str], Any]
    """Every byte into memory; ours checks them. Returns a file or bytes."""
    resume: Callable[[], object] | None = None
    """Where it is more than to download the weights and `torch.load` them."""


def ours(endpoint: str) -> Client:
    """Streams with a SHA-256 of the whole."""
    from trainyard_trainer.storage import READ_CHUNK_BYTES, open_storage

    storage = open_storage(f"s3://{BUCKET}", endpoint=endpoint)

    def upload(key: str, data: bytes) -> None:
        view = memoryview(data)
        with storage.open_writer(key) as writer:
            for start in range(0, len(data), PIECE_BYTES):
                writer.write(view[start : start + PIECE_BYTES])

    def download(key: str) -> io.BytesIO:
        digest, whole = hashlib.sha256(), io.BytesIO()
        with storage.open_reader(key) as reader:
            while chunk := reader.read(READ_CHUNK_BYTES):
                digest.update(chunk)
                whole.write(chunk)
        return whole

    def resume() -> object:
        from trainyard_trainer.checkpoint import load_latest

        return load_latest(storage)

    return Client(upload, download, resume)


def boto3(endpoint: str) -> Client:
    """The transfer manager, as it comes."""
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name=REGION)

    def download(key: str) -> io.BytesIO:
        whole = io.BytesIO()
        client.download_fileobj(BUCKET, key, whole)
        return whole

    return Client(lambda key, data: client.upload_fileobj(io.BytesIO(data), BUCKET, key), download)


def obstore(endpoint: str) -> Client:
    """Rust's object_store."""
    import obstore
    from obstore.store import S3Store

    options = {"allow_http": True, "timeout": "120s"}
    store = S3Store(BUCKET, endpoint=endpoint, region=REGION, client_options=options)
    return Client(
        lambda key, data: obstore.put(store, key, data, chunk_size=PIECE_BYTES, max_concurrency=4),
        lambda key: obstore.get(store, key).bytes(),
    )


def s3torchconnector(endpoint: str) -> Client:
    """AWS's common runtime in C, as PyTorch's connector uses it."""
    from s3torchconnector import S3Checkpoint, S3ClientConfig

    config = S3ClientConfig(force_path_style=True)
    connector = S3Checkpoint(region=REGION, endpoint=endpoint, s3client_config=config)

    def upload(key: str, data: bytes) -> None:
        view = memoryview(data)
        with connector.writer(f"s3://{BUCKET}/{key}") as writer:
            for start in range(0, len(data), PIECE_BYTES):
                writer.write(view[start : start + PIECE_BYTES])

    return Client(upload, lambda key: connector.reader(f"s3://{BUCKET}/{key}").read())


def smart_open(endpoint: str) -> Client:
    """Streams through boto3, a part at a time."""
    import boto3
    import smart_open

    client = boto3.client("s3", endpoint_url=endpoint, region_name=REGION)

    def open_it(key: str, mode: str) -> Any:
        options = {"client": client}
        return smart_open.open(f"s3://{BUCKET}/{key}", mode, transport_params=options)

    def upload(key: str, data: bytes) -> None:
        with open_it(key, "wb") as file:
            file.write(data)

    def download(key: str) -> bytes:
        with open_it(key, "rb") as file:
            data: bytes = file.read()
            return data

    return Client(upload, download)


CLIENTS = {
    "trainyard": ours,
    "boto3": boto3,
    "obstore": obstore,
    "s3torchconnector": s3torchconnector,
    "smart_open": smart_open,
}


def measure(action: Callable[[], object]) -> dict[str, float]:
    """Seconds, and the growth of the process at its worst, in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # The peak is the present size again.
    before = memory("VmRSS")
    began = time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "extra_mb": memory("VmHWM") - before}


def memory(field: str) -> float:
    """A line of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024 / 1e6


def main(name: str, endpoint: str) -> None:
    """Obeys until its input ends."""
    client, data = CLIENTS[name](endpoint), random_bytes()
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        verb, key = line.split()
        actions: dict[str, Callable[[], object]] = {
            "upload": partial(client.upload, key, data),
            "download": partial(client.download, key),
            "resume": client.resume or partial(load, client, key),
        }
        print(json.dumps(measure(actions[verb])), flush=True)


def load(client: Client, key: str) -> object:
    """As one does by hand: no byte is checked."""
    import torch

    found = client.download(key)
    file = found if isinstance(found, io.BytesIO) else io.BytesIO(found)
    file.seek(0)
    return torch.load(file, weights_only=True)


def random_bytes() -> bytes:
    """That no client can compress."""
    with Path("/dev/urandom").open("rb") as source:
        return source.read(SIZE_BYTES)


if __name__ == "__main__":
    main(*sys.argv[1:])
