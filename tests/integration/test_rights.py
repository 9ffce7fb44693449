"""Each right of the operator, taken away: which feature is then gone, and what tells of it.

That the features work with all rights is what the other tests of this folder show.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_spec
from faults.tcp_proxy import TcpProxy
from integration.api_server import CORE, ApiServer, Namespace
from integration.conftest import INSTALL, Operator, make_operator, write_kubeconfig
from integration.gang_scheduler import are_crds_served, install_crds
from integration.kubeflow import install as install_kubeflow

RBAC = "/apis/rbac.authorization.k8s.io/v1"
APPS = "/apis/apps/v1"
MakeJob = Callable[..., dict[str, Any]]
Rule = dict[str, list[str]]


@dataclass(frozen=True)
class Need:
    """Why the operator has a right."""

    feature: str
    spec: dict[str, Any]
    """Of the job that needs it."""
    follow: Callable[[Namespace], object] | None = None
    """What happens to the job, where making it is not enough."""
    kind: str = "TrainingJob"


def run_pods(namespace: Namespace) -> None:
    namespace.wait_for_pods("nodules-master-0")
    namespace.start_pod("nodules-master-0")


def end_well(namespace: Namespace) -> None:
    run_pods(namespace)
    namespace.end_pod("nodules-master-0", 0)


def fail(namespace: Namespace) -> None:
    run_pods(namespace)
    namespace.wait_for_phase("nodules", "Running")
    namespace.end_pod("nodules-master-0", 1)


def lose(namespace: Namespace) -> None:
    run_pods(namespace)
    namespace.wait_for_phase("nodules", "Running")
    namespace.delete_pod("nodules-master-0")


def suspend(namespace: Namespace) -> None:
    namespace.wait_for_phase("nodules", "Starting")
    namespace.edit("nodules", {"runPolicy": {"suspend": True}})


def make_again(namespace: Namespace) -> None:
    """As soon as it has its service, by the same spec."""
    job = namespace.job("nodules")
    namespace.wait(namespace.services, "a service", 30)
    namespace.delete("nodules")
    namespace.create({key: job[key] for key in ("apiVersion", "kind", "spec")} | NAMED)


def suspend_sweep(namespace: Namespace) -> None:
    namespace.wait(lambda: namespace.exists("nodules-0"), "a trial")
    namespace.of("trainingsweeps").edit("nodules", {"runPolicy": {"suspend": True}})


def end_trial(namespace: Namespace) -> None:
    namespace.wait_for_pods("nodules-0-master-0")
    namespace.start_pod("nodules-0-master-0")
    progress = {"step": 10, "steps": 10, "metrics": {"val_accuracy": "0.5"}}
    report = {"attempt": 1, "time": "2026-01-01T12:00:00Z", "progress": progress}
    said = {"exit_code": 0, "message": "Done.", "report": report}
    namespace.end_pod("nodules-0-master-0", 0, json.dumps(said))


NAMED = {"metadata": {"name": "nodules"}}
ONE_TRIAL = {"parameters": {"training.seed": {"values": [1]}}}
SWEEP = "TrainingSweep"
SERVE = {
    "recipe": "classification",
    "tensorBoard": {"serve": True},
    "storage": {"uri": "s3://b/runs"},
}
VOLCANO, COSCHEDULING = "scheduling.volcano.sh", "scheduling.x-k8s.io"
GANGS = {
    VOLCANO: {"scheduling": {"gang": "volcano"}},
    COSCHEDULING: {"scheduling": {"gang": "coscheduling"}},
}
NEEDS = {
    ("trainingjobs", "list"): Need("jobs are known at the start", {}),
    ("trainingjobs", "watch"): Need("a new job is seen", {}),
    ("trainingjobs", "delete"): Need(
        "a job goes after its ttl", {"runPolicy": {"ttlSecondsAfterFinished": 0}}, end_well
    ),
    ("trainingjobs/status", "patch"): Need("the status is told", {}),
    ("trainingsweeps", "list"): Need("sweeps are known at the start", {}),
    ("trainingsweeps", "watch"): Need("a new sweep is seen", {}),
    ("trainingsweeps", "delete"): Need(
        "a sweep goes after its ttl", {"ttlSecondsAfterFinished": 0}, end_trial, SWEEP
    ),
    ("trainingsweeps/status", "patch"): Need("a sweep's status is told", {}, kind=SWEEP),
    ("trainingjobs", "create"): Need("a sweep makes its trials", {}, kind=SWEEP),
    ("trainingjobs", "patch"): Need("a sweep suspends its trials", {}, suspend_sweep, SWEEP),
    ("pods", "create"): Need("pods are made", {}),
    ("pods", "list"): Need("pods are known at the start", {}),
    ("pods", "watch"): Need("a pod's state is seen", {}, run_pods),
    ("pods", "delete"): Need(
        "a failed gang makes way", {"runPolicy": {"restartBackoff": {"initialSeconds": 0}}}, fail
    ),
    ("services", "create"): Need("a gang finds its first pod", {}),
    ("services", "delete"): Need("a job's name can be used again at once", {}, make_again),
    ("deployments", "create"): Need("TensorBoard is served", SERVE),
    (f"podgroups.{VOLCANO}", "create"): Need("Volcano is told of a gang", GANGS[VOLCANO]),
    (f"podgroups.{VOLCANO}", "get"): Need("a later attempt joins it", GANGS[VOLCANO], lose),
    (f"podgroups.{COSCHEDULING}", "create"): Need("so is coscheduling", GANGS[COSCHEDULING]),
    (f"podgroups.{COSCHEDULING}", "get"): Need(
        "a later attempt joins it there, too", GANGS[COSCHEDULING], lose
    ),
    ("events", "create"): Need("the story is told in events", {}),
    ("pytorchjobs", "create"): Need("Kubeflow runs an attempt", {"backend": "kubeflow"}),
    ("pytorchjobs", "get"): Need("Kubeflow's object is known", {"backend": "kubeflow"}),
    ("pytorchjobs", "delete"): Need(
        "a suspended job stops with Kubeflow, too", {"backend": "kubeflow"}, suspend
    ),
    ("leases", "create"): Need("the first replica leads", {}),
    ("leases", "get"): Need("a replica knows who leads", {}),
    ("leases", "update"): Need("the one that leads keeps leading", {}),
}
"""Where one rule names several groups, a resource has its group's name."""
SERVICES, PODS = f"{CORE}/namespaces/{{}}/services", f"{CORE}/namespaces/{{}}/pods"
OCCUPIED = {
    "services": SERVICES,
    "pods": PODS,
    "deployments": f"{APPS}/namespaces/{{}}/deployments",
}
"""Resources that are also read: a name that is taken is told from one's own object."""
REREAD = ("trainingjobs", "trainingsweeps")
"""After a write that came too late the object is read anew."""


def operator_rules() -> dict[tuple[str, str], Rule]:
    """Each right of its two roles as a rule of its own, by resource and verb."""
    items = yaml.safe_load_all(INSTALL.read_text())
    names = {("ClusterRole", "trainyard-operator"), ("Role", "trainyard-leader")}
    roles = [i for i in items if (i["kind"], i["metadata"]["name"]) in names]
    assert len(roles) == len(names)
    rights = {}
    for rule in (rule for role in roles for rule in role["rules"]):
        for group in rule["apiGroups"]:
            suffix = f".{group}" if len(rule["apiGroups"]) > 1 else ""
            for resource, verb in product(rule["resources"], rule["verbs"]):
                one = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                rights[resource + suffix, verb] = {**rule, **one}
    return rights


@contextmanager
def running_without(
    namespace: Namespace, folder: Path, resource: str, verb: str, delay_seconds: float = 0
) -> Iterator[Operator]:
    """An operator of this namespace alone that lacks one right, and hears late of everything."""
    api, name = namespace.api, namespace.name
    account = {"kind": "ServiceAccount", "name": "narrow", "namespace": name}
    api.must("POST", f"{namespace.core}/serviceaccounts", {"metadata": {"name": "narrow"}})
    rights = operator_rules()
    del rights[resource, verb]
    role = {"metadata": {"name": "narrow"}, "rules": list(rights.values())}
    api.must("POST", f"{RBAC}/namespaces/{name}/roles", role)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "narrow"}
    binding = {"metadata": {"name": "narrow"}, "roleRef": reference, "subjects": [account]}
    api.must("POST", f"{RBAC}/namespaces/{name}/rolebindings", binding)
    proxy = TcpProxy(api.plane.port, delay_seconds=delay_seconds)
    kubeconfig = write_kubeconfig(api, folder / "kubeconfig", name, "narrow")
    kubeconfig.write_text(kubeconfig.read_text().replace(api.plane.server[8:], proxy.address))
    operator = make_operator(kubeconfig, folder)
    operator.environment |= {
        "TRAINYARD_OPERATOR_NAMESPACES": name,
        "TRAINYARD_OPERATOR_WORKERS": "2",
        "TRAINYARD_OPERATOR_LEASE_NAMESPACE": name if resource == "leases" else "",
    }
    operator.launch()
    try:
        yield operator
    finally:
        operator.kill()
        proxy.close()


def is_told(namespace: Namespace, operator: Operator, resource: str, verb: str) -> bool:
    """By the job's status or the operator's log, in the API server's words."""
    name, _, group = resource.partition(".")
    sentence = f'cannot {verb} resource "{name}"' + (f' in API group "{group}"' if group else "")
    told = [operator.log.read_text()]
    for kind in (namespace, namespace.of("trainingsweeps")):
        told.append(str(kind.api.send("GET", kind.jobs).json()))
    return any(sentence in text.replace('\\"', '"') for text in told)


@pytest.fixture(scope="module")
def ready(api: ApiServer) -> ApiServer:
    """With the resources of gang schedulers and of Kubeflow."""
    if not are_crds_served(api):
        install_crds(api)
    install_kubeflow(api)
    return api


@pytest.fixture
def own(ready: ApiServer) -> Namespace:
    name = f"test-{uuid.uuid4().hex[:8]}"
    ready.must("POST", f"{CORE}/namespaces", {"metadata": {"name": name}})
    return Namespace(ready, name)


def test_every_right_has_its_feature() -> None:
    read = {(resource, "get") for resource in (*OCCUPIED, *REREAD)}
    assert operator_rules().keys() == set(NEEDS) | read


def make_sweep(run_policy: dict[str, Any]) -> dict[str, Any]:
    """Of one trial."""
    program = {"command": ["python", "train.py"], "image": "registry.example/mine:1"}
    spec = make_spec("grid", template={"spec": program}, **ONE_TRIAL)
    spec |= {"runPolicy": run_policy} if run_policy else {}
    header = {"apiVersion": "trainyard.dev/v1alpha1", "kind": SWEEP}
    return header | {"metadata": {"name": "nodules"}, "spec": spec}


@pytest.mark.parametrize(("resource", "verb"), NEEDS, ids=str)
def test_without_this_right_a_feature_is_gone_and_it_is_told(
    own: Namespace, tmp_path: Path, make_job: MakeJob, resource: str, verb: str
) -> None:
    need = NEEDS[resource, verb]
    with running_without(own, tmp_path, resource, verb) as operator:
        if need.kind == SWEEP:
            own.of("trainingsweeps").create(make_sweep(need.spec))
        else:
            own.create(make_job(nodes=1, **need.spec))
        if need.follow:
            need.follow(own)
        what = f"{need.feature}: missing and told"
        own.wait(lambda: is_told(own, operator, resource, verb), what, 20)


@pytest.mark.parametrize("resource", OCCUPIED)
def test_without_reading_it_a_name_that_is_taken_is_not_understood(
    own: Namespace, tmp_path: Path, make_job: MakeJob, resource: str
) -> None:
    spec: dict[str, Any] = {"nodes": 1}
    if resource == "deployments":
        spec |= SERVE
    occupy(own, resource)
    with running_without(own, tmp_path, resource, "get") as operator:
        own.create(make_job(**spec))
        own.wait(lambda: is_told(own, operator, resource, "get"), "told", 20)


@pytest.mark.parametrize("resource", REREAD)
def test_without_reading_it_a_status_that_was_written_too_late_is_not_written_again(
    own: Namespace, tmp_path: Path, make_job: MakeJob, resource: str
) -> None:
    changed = own.of(resource)
    with running_without(own, tmp_path, resource, "get", delay_seconds=0.3) as operator:
        changed.create(make_job(nodes=1) if resource == "trainingjobs" else make_sweep({}))

        def is_told_meanwhile() -> bool:
            changed.touch("nodules")
            return is_told(own, operator, resource, "get")

        own.wait(is_told_meanwhile, "told", 20)


def occupy(namespace: Namespace, resource: str) -> None:
    """With an object of the name that the job's would have."""
    names = {"pods": "nodules-master-0", "deployments": "nodules-tensorboard"}
    labels = {"app": "other"}
    container = {"name": "a", "image": "a"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    specs: dict[str, Any] = {
        "services": {"clusterIP": "None", "ports": [{"port": 80}]},
        "pods": template["spec"],
        "deployments": {"selector": {"matchLabels": labels}, "template": template},
    }
    body = {"metadata": {"name": names.get(resource, "nodules")}, "spec": specs[resource]}
    namespace.api.must("POST", OCCUPIED[resource].format(namespace.name), body)


def test_operator_can_do_nothing_else(api: ApiServer) -> None:
    """What would let it take over a cluster."""
    account = "system:serviceaccount:trainyard-system:trainyard-operator"
    for group, resource, verb in (
        ("", "secrets", "get"),
        ("", "secrets", "list"),
        ("", "configmaps", "get"),
        ("", "pods/exec", "create"),
        ("", "pods/log", "get"),
        ("", "pods", "update"),
        ("", "nodes", "list"),
        ("", "namespaces", "list"),
        ("", "serviceaccounts/token", "create"),
        ("", "persistentvolumeclaims", "delete"),
        ("apps", "deployments", "delete"),
        ("apps", "daemonsets", "create"),
        ("batch", "jobs", "create"),
        ("trainyard.dev", "trainingjobs", "update"),
        ("rbac.authorization.k8s.io", "rolebindings", "create"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies", "update"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "get"),
        ("coordination.k8s.io", "leases", "update"),
    ):
        wanted = {"group": group, "resource": resource.partition("/")[0], "verb": verb}
        wanted |= {"subresource": resource.partition("/")[2], "namespace": "kube-system"}
        body = {"spec": {"user": account, "resourceAttributes": wanted}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        allowed = api.must("POST", path, body)["status"]["allowed"]
        assert not allowed, f"{verb} {resource}"
