"""A real API server and etcd, no nodes; the operator runs beside it with its own narrow rights."""

import base64
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from cluster.certificates import build_kubeconfig
from cluster.controlplane import ControlPlane
from cluster.process import Daemon, spawn, tail
from cluster.s3 import S3, S3Access
from integration.api_server import CORE, JOBS, ApiServer, Namespace
from integration.bucket import BUCKET
from patience import WAIT_SECONDS
from ports import free_ports

CHECKOUT = Path(__file__).resolve().parents[2]
CRDS = sorted((CHECKOUT / "manifests" / "crd").glob("*.yaml"))
INSTALL = CHECKOUT / "manifests" / "install" / "operator.yaml"
SYSTEM = "trainyard-system"
ACCOUNT = "trainyard-operator"


@dataclass
class Operator:
    """The operator as a process of its own."""

    kubeconfig: Path
    log: Path
    port: int
    environment: dict[str, str]
    daemon: Daemon | None = None

    def start(self) -> None:
        """Returns once it is ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Returns at once."""
        port = {"TRAINYARD_OPERATOR_HEALTH_PORT": str(self.port)}
        environment = {**self.environment, **port, "KUBECONFIG": str(self.kubeconfig)}
        command = [sys.executable, "-m", "trainyard_operator"]
        self.daemon = spawn("operator", command, self.log, environment=environment)

    def wait_until_ready(self) -> None:
        """Raises AssertionError with the end of its log."""
        assert self.daemon is not None
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.is_ready():
            self.daemon.require_alive()
            assert time.monotonic() < deadline, tail(self.log, 40)
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            return self.get("/readyz").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=WAIT_SECONDS)

    def kill(self) -> None:
        """As a node's power failure does."""
        assert self.daemon is not None
        self.daemon.kill()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.split()[-1]) for line in found if all(w in line for w in wanted))


def install_rights(api: ApiServer) -> None:
    """The operator's namespace, ServiceAccount and role, without its Deployment."""
    for item in INSTALL.read_text().split("\n---\n"):
        if "kind: Deployment" not in item:
            api.apply_text(item)


def install_crd(api: ApiServer) -> None:
    """Returns once the API server serves it."""
    for path in CRDS:
        api.apply_text(path.read_text())
    deadline = time.monotonic() + WAIT_SECONDS
    for kind in ("trainingjobs", "trainingsweeps"):
        while not api.send("GET", f"{JOBS}/{kind}").ok:
            assert time.monotonic() < deadline, f"{kind} are not served"
            time.sleep(0.05)


def write_kubeconfig(
    api: ApiServer, path: Path, namespace: str = SYSTEM, account: str = ACCOUNT
) -> Path:
    """Of the operator's ServiceAccount, which has no right but those of its role."""
    authority = base64.b64encode(api.plane.authority.certificate("ca").read_bytes()).decode()
    cluster = {"server": api.plane.server, "certificate-authority-data": authority}
    user = {"token": api.token(namespace, account)}
    path.write_text(json.dumps(build_kubeconfig(cluster, user)))
    return path


@pytest.fixture(scope="session")
def api() -> Iterator[ApiServer]:
    """With the CRD and the operator's rights installed."""
    with running_control_plane() as api:
        install_rights(api)
        install_crd(api)
        yield api


@contextmanager
def running_control_plane() -> Iterator[ApiServer]:
    """Empty."""
    plane = ControlPlane()
    plane.start()
    try:
        yield ApiServer(plane)
    finally:
        plane.stop()


@pytest.fixture
def namespace(api: ApiServer) -> Namespace:
    """A restricted namespace of this test alone."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"metadata": {"name": name, "labels": labels}}
    api.must("POST", f"{CORE}/namespaces", body)
    return Namespace(api, name)


@pytest.fixture(scope="session")
def kubeconfig(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's."""
    return write_kubeconfig(api, tmp_path_factory.mktemp("operator") / "kubeconfig")


@pytest.fixture(scope="module")
def operator(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Running; its log is printed when a test of the module fails."""
    operator = make_operator(kubeconfig, tmp_path_factory.mktemp("operator"))
    operator.start()
    yield operator
    operator.kill()
    print(tail(operator.log, 60))


def make_operator(kubeconfig: Path, folder: Path) -> Operator:
    """Not started yet."""
    environment = {"PYTHONPATH": str(CHECKOUT / "operator")}
    return Operator(kubeconfig, folder / "operator.log", free_ports(1)[0], environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Access]:
    """A real S3 server with one bucket."""
    with S3(tmp_path_factory.mktemp("s3") / "buckets") as access:
        access.client().create_bucket(Bucket=BUCKET)
        yield access


@pytest.fixture
def make_job() -> Callable[..., dict[str, Any]]:
    """Builder of jobs: a command on two nodes unless the spec says otherwise; None removes."""

    def build(name: str = "nodules", **spec: Any) -> dict[str, Any]:
        program = {} if spec.get("recipe") else {"command": ["python", "train.py"]}
        fields = {"nodes": 2, "image": "registry.example/mine:1", **program, **spec}
        return {
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name},
            "spec": {key: value for key, value in fields.items() if value is not None},
        }

    return build
