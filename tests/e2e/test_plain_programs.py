"""Programs that know nothing of Trainyard, over two pods, with no edit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.namespace import build_claim, build_volume
from demo.jobs import cluster_template
from e2e.kube import Namespace

from trainyard_operator.overlay import merge

SELF_TEST = "accelerate.test_utils.scripts.test_script"
CLAIM = "shared"


@pytest.fixture(scope="module")
def shared_claim(
    cluster: Any, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A claim that both nodes may write: ranks of the self-test append to one file."""
    if not cluster.is_own:
        pytest.skip("needs a volume that two nodes can write")
    folder: Path = tmp_path_factory.mktemp("shared")
    folder.chmod(0o777)
    volume = build_volume(namespace.name, CLAIM, folder)
    for item in (volume, build_claim(namespace.name, CLAIM)):
        shared = merge(item, {"spec": {"accessModes": ["ReadWriteMany"]}})
        namespace.kubectl("apply", "-f", "-", stdin=json.dumps(shared))
    namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", f"pvc/{CLAIM}")
    yield CLAIM
    namespace.kubectl("delete", f"pv/{volume['metadata']['name']}", "--wait=false")


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
    status = namespace.wait_for_phase(name, "Succeeded", 240)
    assert status["attempt"] == 1
    logs = namespace.kubectl("logs", f"{name}-master-0")
    assert "Distributed environment: DistributedType.MULTI_CPU  Backend: gloo" in logs
    assert "Num processes: 2" in logs
    assert "Training yielded the same results on one CPU or distributed setup" in logs
