"""Namespaces at the level `restricted`: ours may run, and what breaks a restriction may not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from integration.api_server import Namespace
from integration.conftest import INSTALL
from integration.helm_chart import of_kind

from trainyard_operator.api import TrainingJob
from trainyard_operator.defaults import Defaults
from trainyard_operator.desired import build_pod

Pod = dict[str, Any]


def operator_pod() -> Pod:
    """As the Deployment's controller makes it."""
    deployment = of_kind([i for i in yaml.safe_load_all(INSTALL.read_text()) if i], "Deployment")
    template = deployment["spec"]["template"]
    spec = {key: value for key, value in template["spec"].items() if key != "serviceAccountName"}
    return {
        "metadata": {"name": "operator", "labels": template["metadata"]["labels"]},
        "spec": spec,
    }


def pod_of(**spec: Any) -> Pod:
    metadata = {"name": "nodules", "uid": "7c1e"}
    job = TrainingJob.model_validate({"metadata": metadata, "spec": {"nodes": 1, **spec}})
    pod = build_pod(job, 1, 0, Defaults())
    del pod["metadata"]["namespace"], pod["metadata"]["ownerReferences"]
    return pod


STORAGE = {"uri": "s3://b/runs", "credentialsSecretRef": {"name": "s3"}}
PODS = {
    "operator": operator_pod(),
    "recipe": pod_of(recipe="classification"),
    "recipe with storage": pod_of(recipe="classification", storage=STORAGE),
    "program with a companion": pod_of(command=["python", "train.py"], storage=STORAGE),
}


def container(pod: Pod) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]["securityContext"]
    return found


BREAKS: dict[str, Callable[[Pod], object]] = {
    "runAsNonRoot != true": lambda pod: pod["spec"]["securityContext"].update(runAsNonRoot=False),
    "runAsUser=0": lambda pod: pod["spec"]["securityContext"].update(runAsUser=0),
    "seccompProfile": lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"),
    "allowPrivilegeEscalation != false": lambda pod: container(pod).pop("allowPrivilegeEscalation"),
    "unrestricted capabilities": lambda pod: container(pod).pop("capabilities"),
    "privileged": lambda pod: container(pod).update(privileged=True, allowPrivilegeEscalation=True),
    "host namespaces": lambda pod: pod["spec"].update(hostNetwork=True),
    "restricted volume types": lambda pod: pod["spec"]["volumes"].append(
        {"name": "host", "hostPath": {"path": "/etc"}}
    ),
}
"""By what the API server calls it."""


def create(namespace: Namespace, pod: Pod) -> Any:
    return namespace.api.send("POST", f"{namespace.core}/pods", pod, params={"dryRun": "All"})


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_ours_may_run(namespace: Namespace, pod: Pod) -> None:
    answer = create(namespace, pod)
    assert answer.ok, answer.text


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
@pytest.mark.parametrize("restriction", BREAKS)
def test_one_that_breaks_a_restriction_may_not(
    namespace: Namespace, pod: Pod, restriction: str
) -> None:
    pod = copy.deepcopy(pod)
    BREAKS[restriction](pod)
    answer = create(namespace, pod)
    assert answer.status_code == 403, answer.text
    assert 'violates PodSecurity "restricted:latest"' in answer.json()["message"]
    assert restriction in answer.json()["message"]


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_root_file_system_is_read_only_and_the_user_is_fixed(pod: Pod) -> None:
    spec = pod["spec"]
    every = [*spec["containers"], *spec.get("initContainers", ())]
    assert {each["securityContext"]["readOnlyRootFilesystem"] for each in every} == {True}
    assert spec["securityContext"]["runAsUser"] == 65532
