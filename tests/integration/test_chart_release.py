"""Releases of the chart on a real control plane with controllers, from install to uninstall."""

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.controlplane import ControlPlane
from cluster.process import tail
from integration.api_server import CORE, JOBS, ApiServer, Namespace
from integration.conftest import SYSTEM, make_operator, write_kubeconfig
from integration.helm_chart import CHART, Helm, as_options, environment_of

MakeJob = Callable[..., dict[str, Any]]
APPS = "/apis/apps/v1"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainingjobs.trainyard.dev"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
VERBS = ("list", "create", "delete")
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """Empty, with controllers, which aggregate roles and make pods."""
    plane = ControlPlane(controllers=True)
    plane.start()
    yield ApiServer(plane)
    plane.stop()


@pytest.fixture(scope="module")
def helm(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tmp_path_factory.mktemp("helm"), api.plane.kubeconfig("admin"))


def make_namespace(api: ApiServer, name: str) -> Namespace:
    api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
    return Namespace(api, name)


def install(helm: Helm, name: str, namespace: str, chart: Path = CHART, **values: Any) -> str:
    """Or upgrade; returns what it printed."""
    options = [f"--namespace={namespace}", "--wait=false", *as_options(values)]
    return helm.must("upgrade", "--install", name, chart, *options)


@pytest.fixture(scope="module")
def system(api: ApiServer, helm: Helm) -> Namespace:
    """The namespace of release `trainyard`, which runs the jobs of all namespaces."""
    namespace = make_namespace(api, SYSTEM)
    install(helm, "trainyard", SYSTEM)
    return namespace


@pytest.fixture
def namespace(api: ApiServer, system: Namespace) -> Namespace:
    """Of this test alone."""
    return make_namespace(api, f"test-{uuid.uuid4().hex[:8]}")


def operator_pods(namespace: Namespace) -> list[dict[str, Any]]:
    return [pod for name, pod in namespace.pods().items() if "-operator-" in name]


def test_pod_of_the_operator_may_run_where_only_restricted_pods_may(system: Namespace) -> None:
    pods = system.wait(lambda: operator_pods(system), "a pod of the operator")
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == {"trainyard-operator"}


def test_job_of_the_notes_is_accepted(system: Namespace, helm: Helm) -> None:
    notes = helm.must("get", "notes", "trainyard", f"--namespace={SYSTEM}")
    (text,) = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", notes, re.DOTALL)
    job = yaml.safe_load(text)
    namespace = Namespace(system.api, job["metadata"]["namespace"])
    stored = namespace.create(job)
    assert stored["spec"]["nodes"] == 2
    namespace.delete("hello")


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("view", {"list"}), ("edit", set(VERBS)), ("admin", set(VERBS))],
)
def test_cluster_roles_take_in_the_rights_to_jobs(
    namespace: Namespace, role: str, allowed: set[str]
) -> None:
    subject = {"kind": "User", "name": "mia", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
    body = {"metadata": {"name": "mia"}, "roleRef": reference, "subjects": [subject]}
    namespace.api.must("POST", f"{RBAC}/namespaces/{namespace.name}/rolebindings", body)

    def may() -> set[str]:
        return {verb for verb in VERBS if is_allowed(namespace, verb)}

    namespace.wait(lambda: may() == allowed, f"allowed to {allowed}")


def is_allowed(namespace: Namespace, verb: str) -> bool:
    """Whether the user `mia` may do so with jobs."""
    resource = {"group": "trainyard.dev", "resource": "trainingjobs", "verb": verb}
    attributes = resource | {"namespace": namespace.name}
    body = {"spec": {"user": "mia", "resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return namespace.api.must("POST", path, body)["status"]["allowed"]


def test_upgrade_changes_settings_and_the_crd(
    system: Namespace, helm: Helm, tmp_path: Path
) -> None:
    api = system.api
    later = shutil.copytree(CHART, tmp_path / "trainyard")
    crd = later / "templates" / "crd.yaml"
    crd.write_text(crd.read_text().replace("    - tj\n", "    - tj\n    - tjob\n"))
    install(helm, "trainyard", SYSTEM, later, **{"trainerImage.tag": "2"})
    assert api.must("GET", CRD)["spec"]["names"]["shortNames"] == ["tj", "tjob"]
    path = f"{APPS}/namespaces/{SYSTEM}/deployments/trainyard-operator"
    environment = environment_of(api.must("GET", path))
    assert environment["TRAINYARD_OPERATOR_TRAINER_IMAGE"] == "trainyard-trainer:2"
    helm.must("rollback", "trainyard", f"--namespace={SYSTEM}")
    assert api.must("GET", CRD)["spec"]["names"]["shortNames"] == ["tj"]


def test_uninstall_leaves_the_crd_and_the_jobs(
    namespace: Namespace, system: Namespace, helm: Helm, make_job: MakeJob
) -> None:
    api = system.api
    uid = namespace.create(make_job())["metadata"]["uid"]
    helm.must("uninstall", "trainyard", f"--namespace={SYSTEM}")
    gone = [
        f"{APPS}/namespaces/{SYSTEM}/deployments/trainyard-operator",
        f"{CORE}/namespaces/{SYSTEM}/serviceaccounts/trainyard-operator",
        *(f"{RBAC}/clusterroles/trainyard-{name}" for name in ("operator", "viewer", "editor")),
        f"{RBAC}/clusterrolebindings/trainyard-operator",
    ]
    assert [api.send("GET", path).status_code for path in gone] == [404] * len(gone)
    assert namespace.job("nodules")["metadata"]["uid"] == uid
    install(helm, "trainyard", SYSTEM)
    assert namespace.job("nodules")["metadata"]["uid"] == uid


def test_second_release_runs_its_namespace_and_may_nothing_elsewhere(
    namespace: Namespace, helm: Helm, make_job: MakeJob, tmp_path: Path
) -> None:
    api = namespace.api
    own = make_namespace(api, f"own-{uuid.uuid4().hex[:8]}")
    shared = {f"{name}.enabled": False for name in ("crds", "aggregateRoles", "storagePolicy")}
    # The same name as the first: nothing of it lies outside the two namespaces.
    secrets = [{"name": "registry"}]
    values = {"watchNamespace": namespace.name, "trainerImage.pullSecrets": secrets}
    install(helm, "trainyard", own.name, **shared, **values)
    deployment = f"{APPS}/namespaces/{own.name}/deployments/trainyard-operator"
    account = (own.name, "trainyard-operator")
    operator = make_operator(write_kubeconfig(api, tmp_path / "kubeconfig", *account), tmp_path)
    operator.environment |= environment_of(api.must("GET", deployment))
    operator.environment["TRAINYARD_OPERATOR_LEASE_NAMESPACE"] = own.name
    operator.start()
    try:
        own.create(make_job())
        namespace.create(make_job())
        namespace.wait_for_pods("nodules-master-0", "nodules-worker-0")
        pods = namespace.pods().values()
        assert [pod["spec"]["imagePullSecrets"] for pod in pods] == [secrets, secrets]
        assert "status" not in own.job("nodules")
        token = api.token(*account)
        verdicts = [
            api.send_as(token, "GET", f"{JOBS}/namespaces/{name}/trainingjobs").status_code
            for name in (namespace.name, own.name)
        ]
        assert verdicts == [200, 403]
    finally:
        operator.kill()
        print(tail(operator.log, 60))
