"""Two tenants of one cluster, which share the default storage; each tries what is the other's."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core_sweeps import make_spec
from integration.api_server import CORE, MERGE_PATCH, ApiServer, Namespace
from integration.conftest import (
    Operator,
    install_crd,
    make_operator,
    running_control_plane,
    write_kubeconfig,
)
from integration.helm_chart import CHART, Helm, environment_of

SHARED = "s3://lab/trainyard"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
POLICY = "trainyard-storage.trainyard.dev"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
HIDDEN = "h1dden-value"
REFUSED = (
    'trainingjobs.trainyard.dev "nodules" is forbidden: ValidatingAdmissionPolicy '
    f"'{POLICY}' with binding '{POLICY}' denied request: "
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With the release of the chart, three tenants, and a job that is older than the policy."""
    with running_control_plane() as api:
        helm = Helm(tmp_path_factory.mktemp("helm"), api.plane.kubeconfig("admin"))
        options = ["--namespace=trainyard-system", "--create-namespace", "--wait=false"]
        storage = [f"--set=storage.uri={SHARED}", "--set=storage.credentialsSecretRef.name=s3"]
        install_crd(api)
        for name in ("team-a", "team-b", "team-c"):
            api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": name}})
        older = Namespace(api, "team-a")
        older.create(make("older", storage={"uri": f"{SHARED}/team-b"}))
        older.of("trainingsweeps").create(make_sweep("older", {"uri": f"{SHARED}/team-b/scans"}))
        options.append("--set=crds.enabled=false")
        helm.must("install", "trainyard", CHART, *options, *storage)
        restrict(api, "team-c", "s3://team-c/, s3://public/data")
        wait_until_in_force(Namespace(api, "team-a"))
        yield api


def restrict(api: ApiServer, namespace: str, prefixes: str) -> None:
    note = {"metadata": {"annotations": {"trainyard.dev/storage-prefixes": prefixes}}}
    api.must("PATCH", f"{CORE}/namespaces/{namespace}", note, headers=MERGE_PATCH)


def wait_until_in_force(namespace: Namespace) -> None:
    """A policy is not in the moment in which it is stored."""
    job = make("probe", dataset={"uri": f"{SHARED}/team-b"})
    for _ in range(1200):
        answer = namespace.api.send("POST", namespace.jobs, job, params={"dryRun": "All"})
        if not answer.ok and "ValidatingAdmissionPolicy" in answer.text:
            return
        time.sleep(0.1)
    raise AssertionError(f"the policy is not in force: {answer.text}")


def make(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {"recipe": "classification", **spec},
    }


def make_sweep(name: str, dataset: dict[str, Any]) -> dict[str, Any]:
    """Over folds, in the default storage."""
    template = {"spec": {"recipe": "classification", "dataset": dataset}}
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingSweep",
        "metadata": {"name": name},
        "spec": make_spec(template=template),
    }


@pytest.fixture
def tenant(api: ApiServer) -> Namespace:
    return Namespace(api, "team-a")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"dataset": {"uri": f"{SHARED}/team-b/nodules/uid/checkpoints"}},
            f"spec.dataset.uri: '{SHARED}/team-b/nodules/uid/checkpoints/' holds what other "
            f"namespaces store; below '{SHARED}/' only '{SHARED}/team-a/' belongs to this one.",
        ),
        (
            {"dataset": {"uri": "s3://lab"}},
            "spec.dataset.uri: 's3://lab/' holds what other namespaces store; below "
            f"'{SHARED}/' only '{SHARED}/team-a/' belongs to this one.",
        ),
        (
            {"storage": {"uri": f"{SHARED}/team-b"}},
            f"spec.storage.uri: '{SHARED}/team-b/' holds what other namespaces store; below "
            f"'{SHARED}/' only '{SHARED}/team-a/' belongs to this one.",
        ),
        (
            {"dataset": {"uri": f"{SHARED}/team-a/../team-b"}},
            f"spec.dataset.uri: '{SHARED}/team-a/../team-b/' has an empty part, '.', '..' or '%' "
            "in its path; write it out plainly.",
        ),
    ],
)
def test_what_another_namespace_stores_is_refused(
    tenant: Namespace, spec: dict[str, Any], sentence: str
) -> None:
    assert tenant.refusal(make("nodules", **spec)) == REFUSED + sentence


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"storage": {"uri": SHARED}},
        {"storage": {"uri": f"{SHARED}/"}, "dataset": {"uri": f"{SHARED}/team-a/scans"}},
        {"storage": {"uri": "s3://mine"}, "dataset": {"uri": "s3://public/luna16"}},
        {"dataset": {"uri": "s3://lab/trainyard-2/scans"}},
    ],
)
def test_own_and_public_places_are_taken(tenant: Namespace, spec: dict[str, Any]) -> None:
    job = make("taken", **spec)
    tenant.api.must("POST", tenant.jobs, job, params={"dryRun": "All"})


def test_sweep_cannot_name_for_its_trials_what_another_namespace_stores(tenant: Namespace) -> None:
    sweep = make_sweep("nodules", {"uri": f"{SHARED}/team-b"})
    assert tenant.of("trainingsweeps").refusal(sweep) == (
        f"{REFUSED.replace('trainingjobs', 'trainingsweeps')}spec.template.spec.dataset.uri: "
        f"'{SHARED}/team-b/' holds what other namespaces store; below '{SHARED}/' only "
        f"'{SHARED}/team-a/' belongs to this one."
    )


def test_sweep_takes_a_public_place(tenant: Namespace) -> None:
    sweep = make_sweep("taken", {"uri": "s3://public/luna16"})
    tenant.api.must("POST", tenant.of("trainingsweeps").jobs, sweep, params={"dryRun": "All"})


def test_annotation_of_a_namespace_bounds_its_jobs(api: ApiServer) -> None:
    tenant = Namespace(api, "team-c")
    own = {"storage": {"uri": "s3://team-c"}, "dataset": {"uri": "s3://public/data/luna16"}}
    api.must("POST", tenant.jobs, make("taken", **own), params={"dryRun": "All"})
    assert tenant.refusal(make("nodules", storage={"uri": "s3://team-b/runs"})) == (
        f"{REFUSED}spec.storage.uri: 's3://team-b/runs/' lies outside of what namespace 'team-c' "
        "may use; name a place below s3://team-c/ or s3://public/data/."
    )


def test_job_from_before_the_policy_can_be_labelled_but_not_moved(tenant: Namespace) -> None:
    api = tenant.api
    tenant.touch("older")
    edit = {"spec": {"nodes": 2}}
    answer = api.send("PATCH", f"{tenant.jobs}/older", edit, headers=MERGE_PATCH)
    assert "holds what other namespaces store" in answer.json()["message"]


def test_checkpoint_of_another_namespace_cannot_be_named(tenant: Namespace) -> None:
    job = make("nodules", checkpoint={"resumeFrom": {"job": "team-b/nodules"}})
    assert tenant.refusal(job) == (
        'TrainingJob.trainyard.dev "nodules" is invalid: spec.checkpoint.resumeFrom.job: Invalid '
        'value: "team-b/nodules": spec.checkpoint.resumeFrom.job in body should match '
        "'^[a-z]([-a-z0-9]*[a-z0-9])?$'"
    )


@pytest.mark.parametrize(
    ("field", "key"), [("storage", "credentialsSecretRef"), ("configFrom", "configMapKeyRef")]
)
def test_reference_takes_no_namespace(tenant: Namespace, field: str, key: str) -> None:
    rest = {"storage": {"uri": "s3://b"}, "configFrom": {}}[field]
    spec = {field: {**rest, key: {"name": "s3", "key": "k", "namespace": "team-b"}}}
    unknown = f'unknown field "spec.{field}.{key}.namespace"'
    assert unknown in tenant.refusal(make("nodules", **spec))


def test_editor_of_one_namespace_sees_and_changes_nothing_in_the_other(api: ApiServer) -> None:
    account = {"kind": "ServiceAccount", "name": "mia", "namespace": "team-a"}
    api.must("POST", f"{CORE}/namespaces/team-a/serviceaccounts", {"metadata": {"name": "mia"}})
    reference = {
        "kind": "ClusterRole",
        "name": "trainyard-editor",
        "apiGroup": "rbac.authorization.k8s.io",
    }
    body = {"metadata": {"name": "mia"}, "roleRef": reference, "subjects": [account]}
    api.must("POST", f"{RBAC}/namespaces/team-a/rolebindings", body)
    token = api.token("team-a", "mia")
    theirs = "/apis/trainyard.dev/v1alpha1/namespaces/team-b/trainingjobs/nodules"
    answers = [api.send_as(token, method, theirs).status_code for method in ("GET", "DELETE")]
    assert answers == [403, 403]
    own = theirs.replace("team-b", "team-a")
    assert api.send_as(token, "DELETE", own).status_code == 404


@pytest.fixture
def operator(api: ApiServer, tmp_path: Path) -> Iterator[Operator]:
    """Of the release, and as talkative as it can be; each tenant has a Secret and a config map."""
    for name in ("team-a", "team-b"):
        secret = {"stringData": {"AWS_SECRET_ACCESS_KEY": HIDDEN}}
        for kind, body in (("secrets", secret), ("configmaps", {"data": {"k": "seed: 1"}})):
            path = f"{CORE}/namespaces/{name}/{kind}"
            api.must("POST", path, body | {"metadata": {"name": f"own-{name}"}})
    path = "/apis/apps/v1/namespaces/trainyard-system/deployments/trainyard-operator"
    operator = make_operator(write_kubeconfig(api, tmp_path / "kubeconfig"), tmp_path)
    operator.environment |= environment_of(api.must("GET", path))
    operator.environment["TRAINYARD_OPERATOR_LOG_LEVEL"] = "debug"
    operator.start()
    yield operator
    operator.kill()
    for name in ("team-a", "team-b"):
        for kind in ("secrets", "configmaps"):
            api.must("DELETE", f"{CORE}/namespaces/{name}/{kind}/own-{name}")


def test_secret_of_another_namespace_reaches_no_pod_and_no_secret_is_told(
    tenant: Namespace, operator: Operator
) -> None:
    """The operator gets the reference alone; it may read no Secret."""
    storage = {"uri": "s3://mine", "credentialsSecretRef": {"name": "own-team-b"}}
    tenant.create(make("borrows", storage=storage))
    pod = tenant.wait(lambda: tenant.pods().get("borrows-master-0"), "its pod")
    assert_only_by_reference(pod, "own-team-b")
    assert message_of_the_kubelet(tenant, "borrows", 'secret "own-team-b" not found') == (
        "spec.storage.credentialsSecretRef: no Secret 'own-team-b' in namespace 'team-a'; create "
        "it, or drop the field to use the pod's identity."
    )
    told = [tenant.job("borrows"), tenant.api.must("GET", f"{tenant.core}/events"), pod]
    told += [operator.log.read_text(), operator.get("/metrics").text]
    assert HIDDEN not in json.dumps(told)
    token = tenant.api.token("trainyard-system", "trainyard-operator")
    secrets = f"{CORE}/namespaces/team-a/secrets"
    assert tenant.api.send_as(token, "GET", secrets).status_code == 403


def test_config_map_of_another_namespace_reaches_no_pod_and_is_named(
    tenant: Namespace, operator: Operator
) -> None:
    reference = {"name": "own-team-b", "key": "k"}
    tenant.create(make("reads", configFrom={"configMapKeyRef": reference}))
    pod = tenant.wait(lambda: tenant.pods().get("reads-master-0"), "its pod")
    (container,) = pod["spec"]["containers"]
    given = [each["valueFrom"] for each in container["env"] if "valueFrom" in each]
    assert [each["configMapKeyRef"] for each in given if "configMapKeyRef" in each] == [reference]
    assert message_of_the_kubelet(tenant, "reads", 'configmap "own-team-b" not found') == (
        "spec.configFrom.configMapKeyRef: no ConfigMap 'own-team-b' in namespace 'team-a'; create "
        "it, or drop the field."
    )


def message_of_the_kubelet(tenant: Namespace, job: str, said: str) -> str:
    """What becomes of it in the job's condition."""
    waits = {"reason": "CreateContainerConfigError", "message": said}
    tenant.set_pod(f"{job}-master-0", phase="Pending", state={"waiting": waits})

    def message() -> str:
        return str(tenant.condition(job, "Running").get("message", ""))

    tenant.wait(lambda: message().startswith("spec."), "told")
    return message()


def test_sweep_from_before_the_policy_gets_no_trial(tenant: Namespace, operator: Operator) -> None:
    sweeps = tenant.of("trainingsweeps")
    of_trial = REFUSED.replace("nodules", "older-0")
    found = sweeps.wait(lambda: refused_trial(sweeps), "told")
    assert found == (
        f"The API server refused a trial: {of_trial}spec.dataset.uri: '{SHARED}/team-b/scans/' "
        f"holds what other namespaces store; below '{SHARED}/' only '{SHARED}/team-a/' belongs to "
        "this one."
    )
    assert not tenant.exists("older-0")


def refused_trial(sweeps: Namespace) -> str:
    """Which of its conditions says so."""
    texts = [each["message"] for each in sweeps.status("older").get("conditions", ())]
    return next((text for text in texts if "refused a trial" in text), "")


def assert_only_by_reference(pod: dict[str, Any], secret: str) -> None:
    """Of its own namespace, which is the only one that a pod can mean."""
    (container,) = pod["spec"]["containers"]
    given = [entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if is_secret(entry)]
    assert {reference["name"] for reference in given} == {secret}
    assert all(set(reference) <= {"name", "key", "optional"} for reference in given)
    assert pod["metadata"]["namespace"] == "team-a"


def is_secret(entry: dict[str, Any]) -> bool:
    return "secretKeyRef" in entry.get("valueFrom", {})
