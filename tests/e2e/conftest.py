"""The cluster under test: the one of KUBECONFIG, else the two nodes of `make cluster-up`.

With a KUBECONFIG of your own the operator must be installed there; set TRAINYARD_TEST_S3_ENDPOINT,
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to an S3 that its pods reach, and
TRAINYARD_TEST_IMAGE to a trainer image that it can pull. On the two nodes, where the variable is
set, pods run from that image as well, and not from volumes.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import commands, fullcluster
from cluster.namespace import prepare_namespace
from demo.install import install
from demo.jobs import BUCKET, cluster_template, digits_job, upload_folder
from e2e.kube import Namespace, base_environment

from trainyard_trainer.digits import write_digits

IMAGE = "TRAINYARD_TEST_IMAGE"


@dataclass(frozen=True)
class Cluster:
    """Where the tests run."""

    environment: dict[str, str]
    s3_endpoint: str
    is_own: bool
    """Whether it is the test cluster of this checkout."""


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    kubeconfig = os.environ.get("KUBECONFIG")
    if kubeconfig and not is_test_cluster(kubeconfig):
        endpoint = os.environ["TRAINYARD_TEST_S3_ENDPOINT"]
        environment = base_environment(kubeconfig, {}, Path("/usr/bin"))
        return Cluster(environment, endpoint, is_own=False)
    extra = commands.environment()
    environment = base_environment(extra["KUBECONFIG"], extra, fullcluster.binaries())
    install()
    return Cluster(environment, extra["TRAINYARD_TEST_S3_ENDPOINT"], is_own=True)


def is_test_cluster(kubeconfig: str) -> bool:
    """Whether `cluster.py env` set the variable."""
    return fullcluster.is_up() and Path(kubeconfig) == fullcluster.kubeconfig()


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return folder


@pytest.fixture(scope="session")
def dataset(cluster: Cluster, digits_folder: Path) -> str:
    """The digits in S3; returns their URI."""
    os.environ.update({k: v for k, v in cluster.environment.items() if k.startswith("AWS_")})
    upload_folder(cluster.s3_endpoint, digits_folder, "datasets/digits")
    return f"s3://{BUCKET}/datasets/digits"


@pytest.fixture(scope="session")
def few_digits(dataset: str, cluster: Cluster, digits_folder: Path, tmp_path_factory: Any) -> str:
    """A few images of each digit in S3, for tests that are not about training."""
    folder = tmp_path_factory.mktemp("few")
    for split in ("train", "val", "test"):
        for digit in range(10):
            target = folder / split / str(digit)
            target.mkdir(parents=True)
            for image in sorted((digits_folder / split / str(digit)).iterdir())[:8]:
                shutil.copy(image, target)
    upload_folder(cluster.s3_endpoint, folder, "datasets/few-digits")
    return f"s3://{BUCKET}/datasets/few-digits"


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A restricted namespace of this test module alone."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    if cluster.is_own:
        prepare_namespace(name)
    namespace = Namespace(name, cluster.environment)
    if not cluster.is_own:
        _prepare_elsewhere(namespace)
    yield namespace
    namespace.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def make_short_job(make_job: Any, few_digits: str) -> Any:
    """Builder of jobs over few images, which are over soon."""
    short = {
        "dataset": {"uri": few_digits, "mountPath": "/data"},
        "config": {"training": {"epochs": 1}},
    }
    return lambda name, **spec: make_job(name, **{**short, **spec})


@pytest.fixture(scope="session")
def make_job(cluster: Cluster, dataset: str) -> Any:
    """Builder of digits jobs for this cluster: fields of the spec replaced, None removes one."""
    image = os.environ.get(IMAGE) if cluster.is_own else os.environ[IMAGE]

    def build(name: str = "digits", **spec: Any) -> dict[str, Any]:
        job = digits_job(
            **{
                "storage": {
                    "uri": f"s3://{BUCKET}/runs",
                    "endpoint": cluster.s3_endpoint,
                    "credentialsSecretRef": {"name": "s3-credentials"},
                },
                "dataset": {"uri": dataset, "mountPath": "/data"},
                "template": None if image else cluster_template(),
                "image": image,
                **spec,
            }
        )
        job["metadata"]["name"] = name
        return job

    return build


def _prepare_elsewhere(namespace: Namespace) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    namespace.kubectl("create", "namespace", namespace.name)
    namespace.kubectl("label", "namespace", namespace.name, level)
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    values = [f"--from-literal={key}={os.environ[key]}" for key in keys]
    namespace.kubectl("create", "secret", "generic", "s3-credentials", *values)
