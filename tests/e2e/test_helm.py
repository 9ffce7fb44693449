"""A release of the chart on nodes, from install to uninstall, while a job trains.

The operator runs as a Deployment with the chart's service account. It takes the place of the one
that the other tests use, which is put back at the end. With TRAINYARD_TEST_OPERATOR_IMAGE and
TRAINYARD_TEST_IMAGE it is tested from images that are loaded on the nodes, as it is shipped; else
all code comes from volumes.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.image import PYTHON_IMAGE
from demo.install import NAMESPACE, install
from demo.jobs import CHECKOUT, cluster_template
from e2e.conftest import IMAGE, Cluster
from e2e.kube import Namespace
from integration.helm_chart import CHART, Helm

pytestmark = pytest.mark.slow

RELEASE = "trainyard"
LABEL = f"app.kubernetes.io/instance={RELEASE}"
OPERATORS = f"{LABEL},app.kubernetes.io/component=operator"
KINDS = (
    "deployments,pods,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,"
    "poddisruptionbudgets,validatingadmissionpolicies,validatingadmissionpolicybindings,configmaps"
)
IMAGES = {"image": "TRAINYARD_TEST_OPERATOR_IMAGE", "trainerImage": IMAGE}
"""By value of the chart."""
EPOCHS = 60
"""So many that the job outlives an upgrade, a rollback and an uninstall."""


@pytest.fixture(scope="module")
def helm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Helm]:
    if not cluster.is_own:
        pytest.skip("it replaces the operator of the cluster, which is not ours")
    yield Helm(tmp_path_factory.mktemp("helm"), Path(cluster.environment["KUBECONFIG"]))
    install()


def release(helm: Helm, folder: Path, *options: str) -> str:
    """Install or upgrade, and wait until the operator is ready; returns what Helm says."""
    values = {"image.pullPolicy": "Never", "crds.enabled": "true"}
    images = {key: os.environ[name] for key, name in IMAGES.items() if name in os.environ}
    if "image" not in images:
        images["image"] = PYTHON_IMAGE
        options = (*options, f"--post-renderer={write_renderer(folder)}")
    arguments = [f"--set={key}={value}" for key, value in values.items()]
    for key, image in images.items():
        repository, _, tag = image.rpartition(":")
        arguments += [f"--set={key}.repository={repository}", f"--set-string={key}.tag={tag}"]
    arguments += [f"--namespace={NAMESPACE}", "--wait", "--timeout=150s", "--take-ownership"]
    return helm.must("upgrade", "--install", RELEASE, CHART, *arguments, *options)


def write_renderer(folder: Path) -> Path:
    """Of the operator's code from volumes."""
    renderer = folder / "post-render"
    script = CHECKOUT / "tests" / "e2e" / "post_render.py"
    paths = ":".join(str(CHECKOUT / name) for name in ("tests", "operator", "trainer", "client"))
    renderer.write_text(f'#!/bin/sh\nPYTHONPATH={paths} exec "{sys.executable}" "{script}"\n')
    renderer.chmod(0o755)
    return renderer


def pods_of(namespace: Namespace, job: str) -> dict[str, tuple[str, int]]:
    """uid and restarts of the job's pods, by name."""
    text = namespace.kubectl("get", "pods", "-l", f"trainyard.dev/job={job}", "-o", "json")
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            sum(each["restartCount"] for each in pod["status"]["containerStatuses"]),
        )
        for pod in json.loads(text)["items"]
    }


def is_training(status: dict[str, Any]) -> bool:
    return (status.get("progress") or {}).get("step", 0) > 0


def has_saved(status: dict[str, Any]) -> bool:
    return bool((status.get("checkpoints") or {}).get("latest"))


def test_release_from_install_to_uninstall_while_a_job_trains(
    helm: Helm, namespace: Namespace, make_job: Any, tmp_path: Path
) -> None:
    said = release(helm, tmp_path)
    tested = helm.must("test", RELEASE, f"--namespace={NAMESPACE}", "--timeout=150s")
    assert re.search(r"Phase: +Succeeded", tested)
    run_the_sample(namespace, said)

    training = {"epochs": EPOCHS, "batch_size": 64}
    often = {"everySteps": 5, "keepLast": 1}
    namespace.apply(make_job("long", config={"training": training}, checkpoint=often))
    namespace.wait_until("long", is_training, "training")
    before = pods_of(namespace, "long")
    assert len(before) == 2

    text = log_of_the_operators(namespace, "text")
    assert "INFO trainyard_operator.leader This replica" in text
    release(helm, tmp_path, "--set=logFormat=json")
    lines = [json.loads(line) for line in log_of_the_operators(namespace, "json").splitlines()]
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert pods_of(namespace, "long") == before

    helm.must("rollback", RELEASE, "1", f"--namespace={NAMESPACE}", "--wait", "--timeout=150s")
    assert log_of_the_operators(namespace, "text") != text
    assert pods_of(namespace, "long") == before

    helm.must("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--wait", "--timeout=150s")
    until_nothing_is_left(namespace)
    assert pods_of(namespace, "long") == before
    assert namespace.job("long")["metadata"]["name"] == "long"

    step = namespace.status("long")["progress"]["step"]
    release(helm, tmp_path)
    status = namespace.wait_until("long", lambda s: s["progress"]["step"] > step, "told")
    assert (status["attempt"], status["restarts"]) == (1, {"user": 0, "infrastructure": 0})
    assert pods_of(namespace, "long") == before
    namespace.wait_until("long", has_saved, "saved")
    namespace.trainyard("fetch", "long", "latest", "-d", str(tmp_path / "fetched"))
    assert list((tmp_path / "fetched").rglob("model.pt"))


def until_nothing_is_left(namespace: Namespace) -> None:
    """Helm does not wait for pods that are being deleted."""
    deadline = time.monotonic() + 60
    while left := namespace.kubectl("get", KINDS, "-A", "-l", LABEL, "-o", "name"):
        assert time.monotonic() < deadline, left
        time.sleep(1)


def run_the_sample(namespace: Namespace, said: str) -> None:
    """The job of NOTES.txt; without an image of a trainer it takes its packages from volumes."""
    (text,) = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", said, re.DOTALL)
    job = yaml.safe_load(text)
    job["metadata"]["namespace"] = namespace.name
    if IMAGE not in os.environ:
        job["spec"]["template"] = cluster_template()
    namespace.apply(job)
    namespace.wait_for_phase("hello", "Succeeded")
    assert "rank 0 of 2: the sum is 1" in namespace.kubectl("logs", "hello-master-0")


def log_of_the_operators(namespace: Namespace, form: str) -> str:
    """Of both replicas, once they alone are there and one leads: the other has nothing to say.

    Helm waits for the new pods to be ready, and not for the old ones to go; `kubectl logs deploy/`
    would take the pod that is ready for longest, be it an old one or the one that waits.
    """
    command = ("get", "pods", "-n", NAMESPACE, "-l", OPERATORS, "-o", "json")
    deadline = time.monotonic() + 60
    while True:
        pods = json.loads(namespace.kubectl(*command))["items"]
        forms = {pod["metadata"]["name"]: log_form(pod) for pod in pods}
        if list(forms.values()) == [form, form]:
            log = "".join(namespace.kubectl("logs", name, "-n", NAMESPACE) for name in forms)
            if "leads." in log:
                return log
        assert time.monotonic() < deadline, forms
        time.sleep(1)


def log_form(pod: dict[str, Any]) -> str:
    """What the chart told the pod."""
    values = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    return str(values["TRAINYARD_OPERATOR_LOG_FORMAT"])
