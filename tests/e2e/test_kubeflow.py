"""`backend: kubeflow` on real nodes: Kubeflow's own operator makes pods that train."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster import fullcluster
from cluster.image import PYTHON_IMAGE
from e2e.conftest import Cluster
from e2e.kube import Namespace
from integration.api_server import ApiServer
from integration.kubeflow import INIT_CONTAINER, running_kubeflow

pytestmark = pytest.mark.slow
NAME = "guest"
LOOK_UP = "nslookup {{.MasterAddr}}"
LOOK_UP_IN_PYTHON = (
    "python3 -c 'import socket, sys; socket.gethostbyname(sys.argv[1])' {{.MasterAddr}}"
)
"""The image of these nodes has no nslookup."""


@pytest.fixture(scope="module", autouse=True)
def kubeflow(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if not cluster.is_own:
        pytest.skip("it runs Kubeflow's operator as a process with an administrator's rights")
    template = INIT_CONTAINER.replace(LOOK_UP, LOOK_UP_IN_PYTHON)
    assert template != INIT_CONTAINER
    flags = [f"--pytorch-init-container-image={PYTHON_IMAGE}"]
    api, folder = ApiServer(fullcluster.control_plane()), tmp_path_factory.mktemp("kubeflow")
    with running_kubeflow(api, folder, flags, init_container=template):
        yield


def test_pods_of_kubeflow_train_and_go_on_after_one_is_deleted(
    namespace: Namespace, make_job: Any
) -> None:
    namespace.apply(make_job(NAME, backend="kubeflow"))
    before = namespace.wait_until(
        NAME,
        lambda s: (
            bool((s.get("checkpoints") or {}).get("latest")) and s["progress"]["percent"] < 80
        ),
        "training with a checkpoint",
    )
    owner = "jsonpath={.metadata.ownerReferences[*].kind}"
    for pod in ("guest-master-0", "guest-worker-0"):
        assert namespace.kubectl("get", "pod", pod, "-o", owner) == "PyTorchJob"
    namespace.kubectl("delete", "pod", "guest-worker-0", "--force", "--grace-period=0")
    status = namespace.wait_for_phase(NAME, "Succeeded")
    assert status["attempt"] == 2
    assert status["failure"]["cause"] == "PodDeleted"
    assert status["progress"]["resumedStep"] >= before["checkpoints"]["latest"]["step"]
    assert float(status["progress"]["metrics"]["test_accuracy"]) >= 0.96
