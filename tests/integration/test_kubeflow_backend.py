"""`backend: kubeflow` against Kubeflow's own training-operator v1.9.4; kubelets played by hand."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster.controlplane import ControlPlane
from cluster.process import tail
from integration.api_server import CORE, ApiServer, Namespace
from integration.conftest import (
    Operator,
    install_crd,
    install_rights,
    make_operator,
    write_kubeconfig,
)
from integration.kubeflow import PYTORCHJOBS, running_kubeflow

MakeJob = Callable[..., dict[str, Any]]
GANG = ("nodules-master-0", "nodules-worker-0")
NO_PAUSE = {"initialSeconds": 0, "maxSeconds": 0}


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """With controllers, which delete what an owner leaves behind."""
    plane = ControlPlane(controllers=True)
    plane.start()
    api = ApiServer(plane)
    install_rights(api)
    install_crd(api)
    yield api
    plane.stop()


@pytest.fixture(scope="module")
def operator(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("operator")
    operator = make_operator(write_kubeconfig(api, folder / "kubeconfig"), folder)
    operator.start()
    yield operator
    operator.kill()
    print(tail(operator.log, 60))


@pytest.fixture(scope="module")
def kubeflow(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("kubeflow")
    with running_kubeflow(api, folder) as daemon:
        yield
    print(tail(daemon.log, 20))


@pytest.fixture
def namespace(api: ApiServer, operator: Operator) -> Namespace:
    """A restricted one."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": name, "labels": labels}})
    return Namespace(api, name)


def find_pytorchjob(namespace: Namespace) -> dict[str, Any] | None:
    answer = namespace.api.send("GET", f"{PYTORCHJOBS}/namespaces/{namespace.name}/pytorchjobs")
    return next(iter(answer.json()["items"]), None)


def attempt_of(item: dict[str, Any]) -> str:
    return item["metadata"]["labels"]["trainyard.dev/attempt"]


def end_leaving_pods(namespace: Namespace) -> dict[str, dict[str, Any]]:
    """As a kubelet does; returns the pods as they were before."""
    pods = namespace.pods()
    for pod in pods.values():
        if "deletionTimestamp" in pod["metadata"]:
            namespace.finish_deletion(pod)
    return pods


def wait_for_gang(namespace: Namespace, attempt: int) -> dict[str, dict[str, Any]]:
    """Until exactly the pods of the attempt are there."""

    def gang() -> dict[str, dict[str, Any]] | None:
        pods = end_leaving_pods(namespace)
        is_new = {attempt_of(pod) for pod in pods.values()} == {str(attempt)}
        return pods if set(pods) == set(GANG) and is_new else None

    return namespace.wait(gang, f"gang of attempt {attempt}")


def run_gang(namespace: Namespace, attempt: int) -> dict[str, dict[str, Any]]:
    """Returns the pods as they were made."""
    pods = wait_for_gang(namespace, attempt)
    for name in GANG:
        namespace.start_pod(name)
    namespace.wait_for_phase("nodules", "Running")
    return pods


def environment(pod: dict[str, Any]) -> dict[str, str]:
    """As the container sees it: of two values the last counts."""
    return {e["name"]: e["value"] for e in pod["spec"]["containers"][0]["env"] if "value" in e}


def test_cluster_without_kubeflow_says_so(namespace: Namespace, make_job: MakeJob) -> None:
    namespace.create(make_job(backend="kubeflow"))
    namespace.wait(lambda: "knows no PyTorchJob" in str(namespace.status("nodules")), "a sentence")
    assert namespace.condition("nodules", "Running")["message"] == (
        "The API server refused a pod of this job: this cluster knows no PyTorchJob of "
        "kubeflow.org/v1; install Kubeflow's training-operator, or leave spec.backend out."
    )


def test_backend_cannot_be_changed(namespace: Namespace, make_job: MakeJob) -> None:
    namespace.create(make_job())
    answer = namespace.api.send(
        "PATCH",
        f"{namespace.jobs}/nodules",
        {"spec": {"backend": "kubeflow"}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert "backend cannot be changed." in answer.json()["message"]


@pytest.mark.usefixtures("kubeflow")
def test_two_pods_of_a_pytorchjob_succeed(namespace: Namespace, make_job: MakeJob) -> None:
    namespace.create(make_job(backend="kubeflow", processesPerNode=2))
    pods = run_gang(namespace, 1)
    of_kubeflow = ("PET_NODE_RANK", "RANK", "WORLD_SIZE", "PET_NNODES", "MASTER_ADDR")
    values = [[environment(pods[name])[key] for key in of_kubeflow] for name in GANG]
    assert values == [
        ["0", "0", "4", "2", "nodules-master-0"],
        ["1", "1", "4", "2", "nodules-master-0"],
    ]
    assert {pods[name]["metadata"]["ownerReferences"][0]["kind"] for name in GANG} == {"PyTorchJob"}
    assert namespace.status("nodules")["nodes"] == {
        **{"desired": 2, "ready": 2},
        **{"succeeded": 0, "failed": 0},
    }
    for name in GANG:
        namespace.end_pod(name, 0)
    namespace.wait_for_phase("nodules", "Succeeded")

    def has_succeeded() -> bool:
        found = find_pytorchjob(namespace) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return any(c["type"] == "Succeeded" and c["status"] == "True" for c in conditions)

    namespace.wait(has_succeeded, "PyTorchJob succeeded")
    assert set(namespace.pods()) == set(GANG), "finished pods keep their logs"


@pytest.mark.usefixtures("kubeflow")
def test_failed_rank_restarts_as_a_new_attempt(namespace: Namespace, make_job: MakeJob) -> None:
    namespace.create(make_job(backend="kubeflow", runPolicy={"restartBackoff": NO_PAUSE}))
    run_gang(namespace, 1)
    first = find_pytorchjob(namespace)
    assert first is not None and attempt_of(first) == "1"
    namespace.end_pod("nodules-worker-0", 1, "boom")
    run_gang(namespace, 2)
    second = find_pytorchjob(namespace)
    assert second is not None and attempt_of(second) == "2"
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert namespace.status("nodules")["restarts"] == {"user": 1, "infrastructure": 0}
    for name in GANG:
        namespace.end_pod(name, 0)
    namespace.wait_for_phase("nodules", "Succeeded")


@pytest.mark.usefixtures("kubeflow")
def test_deleted_pod_ends_the_attempt_for_all(namespace: Namespace, make_job: MakeJob) -> None:
    namespace.create(make_job(backend="kubeflow", runPolicy={"restartBackoff": NO_PAUSE}))
    run_gang(namespace, 1)
    namespace.delete_pod("nodules-worker-0")
    run_gang(namespace, 2)
    assert namespace.status("nodules")["restarts"]["infrastructure"] == 1


@pytest.mark.usefixtures("kubeflow")
def test_suspended_job_has_neither_pods_nor_pytorchjob(
    namespace: Namespace, make_job: MakeJob
) -> None:
    namespace.create(make_job(backend="kubeflow"))
    run_gang(namespace, 1)
    namespace.edit("nodules", {"runPolicy": {"suspend": True}})

    def is_empty() -> bool:
        end_leaving_pods(namespace)
        return not namespace.pods() and find_pytorchjob(namespace) is None

    namespace.wait(is_empty, "nothing")
    namespace.wait_for_phase("nodules", "Suspended")
    namespace.edit("nodules", {"runPolicy": {"suspend": False}})
    run_gang(namespace, 2)
