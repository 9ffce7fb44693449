"""The launcher against a real S3 server: data set in, logs out, and a server that goes away."""

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.s3 import S3, S3Access
from patience import WAIT_SECONDS, lateness
from unit.launcher.nodes import RUN_PREFIX, make_environ

from trainyard_operator.contract import Env, Summary

BUCKET = "launcher"
LAUNCH = (
    "import os, sys; from trainyard_trainer.launcher import launch; "
    "os._exit(launch(os.environ, 'trainees:' + sys.argv[1], ()))"
)
TRAINEES = Path(__file__).parents[1] / "unit/launcher"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[S3, S3Access]]:
    s3 = S3(tmp_path / "s3")
    with s3 as access:
        access.client().create_bucket(Bucket=BUCKET)
        yield s3, access


def start(
    folder: Path, access: S3Access, trainee: str, **request: object
) -> "subprocess.Popen[str]":
    environ = make_environ(folder, **request) | {  # type: ignore[arg-type]
        Env.STORAGE_URI: f"s3://{BUCKET}/runs",
        Env.STORAGE_ENDPOINT: access.endpoint,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(TRAINEES), *sys.path]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, trainee],
        env=environ | access.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def keys(access: S3Access) -> set[str]:
    listing = access.client().list_objects_v2(Bucket=BUCKET, Prefix=f"runs/{RUN_PREFIX}/")
    return {one["Key"].removeprefix(f"runs/{RUN_PREFIX}/") for one in listing.get("Contents", [])}


def summary_in(folder: Path) -> Summary:
    return Summary.from_json((folder / "termination-log").read_bytes())


def test_data_set_comes_and_logs_go(tmp_path: Path, server: tuple[S3, S3Access]) -> None:
    client = server[1].client()
    for number in range(30):
        client.put_object(Bucket=BUCKET, Key=f"digits/train/{number}.bin", Body=b"x" * number)
    client.put_object(Bucket=BUCKET, Key="digits/empty/", Body=b"")
    data = tmp_path / "data"
    process = start(
        tmp_path,
        server[1],
        "succeed",
        dataset_uri=f"s3://{BUCKET}/digits",
        dataset_path=str(data),
    )
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert {path.name: path.stat().st_size for path in (data / "train").iterdir()} == {
        f"{number}.bin": number for number in range(30)
    }
    assert f"[node 0] dataset: 30 files, 435 B at {data}, 30 fetched in " in output
    assert keys(server[1]) == {
        "run.json",
        "attempts/a1-node-0.json",
        "logs/a1/node-0/000000.log.gz",
        "logs/a1/rank-0/000000.log.gz",
        "logs/a1/rank-1/000000.log.gz",
    }
    stored = client.get_object(
        Bucket=BUCKET, Key=f"runs/{RUN_PREFIX}/logs/a1/rank-1/000000.log.gz"
    )["Body"].read()
    assert gzip.decompress(stored).decode().splitlines()[0].endswith("Z rank 1 of 2")


def test_empty_prefix_is_a_mistake(tmp_path: Path, server: tuple[S3, S3Access]) -> None:
    process = start(
        tmp_path,
        server[1],
        "succeed",
        dataset_uri=f"s3://{BUCKET}/digts",
        dataset_path=str(tmp_path / "data"),
    )
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 78
    assert summary_in(tmp_path).message == (
        f"spec.dataset.uri: nothing lies under 's3://{BUCKET}/digts'; upload the data there, or "
        "correct the URI."
    )


def test_storage_that_goes_away_does_not_hold_up_the_end(
    tmp_path: Path, server: tuple[S3, S3Access]
) -> None:
    process = start(tmp_path, server[1], "save_when_told", logs={"flushSeconds": 1})
    assert process.stdout is not None
    while not process.stdout.readline().startswith("[rank 1] training"):
        pass
    server[0].stop()
    with lateness(tmp_path / "written") as late:
        began = time.monotonic()
        process.terminate()
        output, _ = process.communicate(timeout=WAIT_SECONDS)
        assert time.monotonic() - began < 15 + late()
    assert process.returncode == 75
    assert "log segments were not stored" in output
    assert summary_in(tmp_path).message.startswith("stopped on request after step 7")
