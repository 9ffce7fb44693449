"""What the smoke test runs in each of its two pods, with torch from the volume.

Every claim is printed as a line; the pod ends when /tmp/finish appears.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import torch
import torch.distributed as dist
from botocore.exceptions import ClientError

BUCKET = os.environ["BUCKET"]
PORT = 8000


class Greeter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    threading.Thread(target=HTTPServer(("", PORT), Greeter).serve_forever, daemon=True).start()
    check_restricted()
    check_training()
    check_storage()
    check_network()
    print("all is well", flush=True)
    while not Path("/tmp/finish").exists():
        time.sleep(0.2)


def check_restricted() -> None:
    assert os.getuid() == 65532
    for folder in ("/", "/site", "/src"):
        try:
            (Path(folder) / "written").touch()
        except OSError:
            continue
        raise AssertionError(f"{folder} can be written to")
    print("not root, and all is read-only", flush=True)


def check_training() -> None:
    dist.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    model(torch.full((2, 4), float(dist.get_rank()))).sum().backward()
    gradient = next(model.parameters()).grad
    # Ranks 0 and 1 have gradients 0 and 2: both see the mean.
    assert gradient is not None and torch.equal(gradient, torch.ones_like(gradient)), gradient
    print(f"rank {dist.get_rank()} of {dist.get_world_size()} has the mean gradient", flush=True)


def check_storage() -> None:
    s3 = connect()
    if dist.get_rank() == 0:
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="greeting", Body=b"hello")
    dist.barrier()
    assert s3.get_object(Bucket=BUCKET, Key="greeting")["Body"].read() == b"hello"
    try:
        key = os.environ["AWS_ACCESS_KEY_ID"]
        liar = connect(aws_access_key_id=key, aws_secret_access_key="wrong")
        liar.get_object(Bucket=BUCKET, Key="greeting")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "SignatureDoesNotMatch", error
    else:
        raise AssertionError("a wrong secret is accepted")
    print("S3 keeps an object, and refuses a wrong secret", flush=True)


def check_network() -> None:
    with urllib.request.urlopen("http://smoke-web", timeout=5) as answer:
        assert answer.read() == b"hello"
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    try:
        # Plain HTTP to the API server of the cluster: its refusal proves that it is there.
        urllib.request.urlopen(f"http://{host}:443/", timeout=5)
    except urllib.error.HTTPError as error:
        assert error.code == 400, error
    print("a Service by its name, and the API server, answer", flush=True)


def connect(**credentials: str) -> Any:
    return boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], **credentials)


if __name__ == "__main__":
    main()
