"""Programs that know nothing of Trainyard, over two pods, with no edit."""

import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from demo.jobs import BUCKET, cluster_template, program_template, s3_client
from e2e.kube import Namespace
from e2e.volumes import shared_claim_of

from trainyard_operator.overlay import merge

SELF_TEST = "accelerate.test_utils.scripts.test_script"
CLAIM = "shared"
KILL = """
import os, pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if path.read_bytes().split(b"\\0")[1:2] == [b"/src/tests/e2e/plain_program.py"]:
        os.kill(int(path.parent.name), 9)
"""


@pytest.fixture(scope="module")
def shared_claim(
    cluster: Any, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A claim that both nodes may write: ranks of the self-test append to one file."""
    if not cluster.is_own:
        pytest.skip("needs a volume that two nodes can write")
    with shared_claim_of(namespace, CLAIM, tmp_path_factory.mktemp("shared")) as name:
        yield name


def in_shared_folder(claim: str) -> dict[str, Any]:
    """The template of the test cluster, with the claim as the working directory."""
    container = {
        "name": "pytorch",
        "workingDir": "/shared",
        "volumeMounts": [{"name": claim, "mountPath": "/shared"}],
    }
    volume = {"name": claim, "persistentVolumeClaim": {"claimName": claim}}
    overlay = {"spec": {"containers": [container], "volumes": [volume]}}
    return merge(cluster_template(), overlay)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("accelerate-python", ["python3", "-m", SELF_TEST]),
        ("accelerate-torchrun", ["torchrun", "-m", SELF_TEST]),
    ],
)
def test_accelerates_own_self_test_ends_well(
    namespace: Namespace, make_job: Any, shared_claim: str, name: str, command: list[str]
) -> None:
    plain = {"recipe": None, "config": None, "checkpoint": None, "dataset": None, "storage": None}
    template = in_shared_folder(shared_claim)
    namespace.apply(make_job(name, command=command, **{**plain, "template": template}))
    status = namespace.wait_for_phase(name, "Succeeded")
    assert status["attempt"] == 1
    logs = namespace.kubectl("logs", f"{name}-master-0")
    assert "Distributed environment: DistributedType.MULTI_CPU  Backend: gloo" in logs
    assert "Num processes: 2" in logs
    assert "Training yielded the same results on one CPU or distributed setup" in logs


def keys_of(cluster: Any, status: dict[str, Any]) -> list[str]:
    """Everything that a run has in storage, below its prefix."""
    prefix = status["logs"]["uri"].removeprefix(f"s3://{BUCKET}/").removesuffix("logs")
    pages = s3_client(cluster.s3_endpoint).get_paginator("list_objects_v2")
    found = [item["Key"] for page in pages.paginate(Bucket=BUCKET, Prefix=prefix)
             for item in page.get("Contents", ())]  # fmt: skip
    return [key.removeprefix(prefix) for key in found]


def stored_log(cluster: Any, status: dict[str, Any], attempt: int, rank: int) -> str:
    """What one rank wrote in an attempt."""
    prefix = status["logs"]["uri"].removeprefix(f"s3://{BUCKET}/")
    client = s3_client(cluster.s3_endpoint)
    keys = [key for key in keys_of(cluster, status) if f"logs/a{attempt}/rank-{rank}/" in key]
    bodies = [client.get_object(Bucket=BUCKET, Key=f"{prefix.removesuffix('logs')}{key}")["Body"]
              for key in keys]  # fmt: skip
    return "".join(gzip.decompress(body.read()).decode() for body in bodies)


def test_a_killed_program_goes_on_from_its_directory(
    cluster: Any, namespace: Namespace, make_job: Any
) -> None:
    if not cluster.is_own:
        pytest.skip("needs this checkout in the pods")
    name = "plain"
    job = make_job(
        name,
        recipe=None,
        config=None,
        dataset=None,
        command=["python3", "/src/tests/e2e/plain_program.py"],
        checkpoint={"everySeconds": 1},
        logs={"flushSeconds": 1},
        runPolicy={"restartBackoff": {"initialSeconds": 0}},
        template=program_template(),
    )
    namespace.apply(job)
    status = namespace.wait_until(
        name, lambda s: (s.get("checkpoints") or {}).get("latest"), "stored its directory"
    )
    assert any(key.startswith("logs/a1/rank-0/") for key in keys_of(cluster, status))
    namespace.kubectl("exec", f"{name}-worker-0", "-c", "pytorch", "--", "python3", "-c", KILL)
    status = namespace.wait_for_phase(name, "Succeeded")
    assert (status["attempt"], status["restarts"]) == (2, {"user": 1, "infrastructure": 0})
    assert status["failure"]["cause"] == "UserExit"
    assert status["failure"]["pod"] == f"{name}-worker-0"
    assert "was killed by SIGKILL" in status["failure"]["message"]
    progress = status["progress"]
    assert (progress["step"], progress["steps"], progress["percent"]) == (40, 40, 100)
    assert progress["metrics"] == {"loss": "0.025"}
    assert progress["resumedStep"] >= 10
    for rank in range(2):
        log = stored_log(cluster, status, 2, rank)
        assert f"rank {rank} begins at step {progress['resumedStep'] // 10 * 10}" in log
        assert f"rank {rank} ends with weight 80" in log
    assert status["checkpoints"]["latest"]["step"] == 40
