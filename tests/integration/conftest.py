"""A real API server and etcd, no nodes; the operator runs beside it with its own narrow rights."""

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from cluster.certificates import build_kubeconfig
from cluster.controlplane import ControlPlane
from cluster.process import Daemon, free_ports, spawn, tail
from integration.api_server import CORE, ApiServer, Namespace

CHECKOUT = Path(__file__).resolve().parents[2]
CRD = CHECKOUT / "manifests" / "crd" / "trainyard.dev_trainingjobs.yaml"
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
        port = {"TRAINYARD_OPERATOR_HEALTH_PORT": str(self.port)}
        environment = {**self.environment, **port, "KUBECONFIG": str(self.kubeconfig)}
        command = [sys.executable, "-m", "trainyard_operator"]
        self.daemon = spawn("operator", command, self.log, environment=environment)
        deadline = time.monotonic() + 30
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
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

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


@pytest.fixture(scope="session")
def api() -> Iterator[ApiServer]:
    """With the CRD and the operator's rights installed."""
    plane = ControlPlane()
    plane.start()
    try:
        api = ApiServer(plane)
        api.apply_text(CRD.read_text())
        for item in INSTALL.read_text().split("\n---\n"):
            if "kind: Deployment" not in item:
                api.apply_text(item)
        path = "/apis/trainyard.dev/v1alpha1/trainingjobs"
        deadline = time.monotonic() + 10
        while not api.send("GET", path).ok:
            assert time.monotonic() < deadline, "the CRD is not served"
            time.sleep(0.05)
        yield api
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
    """Of the operator's ServiceAccount, which has no right but those of its ClusterRole."""
    import base64
    import json

    authority = base64.b64encode(api.plane.authority.certificate("ca").read_bytes()).decode()
    cluster = {"server": api.plane.server, "certificate-authority-data": authority}
    path = tmp_path_factory.mktemp("operator") / "kubeconfig"
    user = {"token": api.token(SYSTEM, ACCOUNT)}
    path.write_text(json.dumps(build_kubeconfig(cluster, user)))
    return path


@pytest.fixture(scope="module")
def operator(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Running; its log is printed when a test of the module fails."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    environment = {"PYTHONPATH": os.pathsep.join([str(CHECKOUT / "operator")])}
    operator = Operator(kubeconfig, log, free_ports(1)[0], environment)
    operator.start()
    yield operator
    operator.kill()
    print(tail(log, 60))


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
