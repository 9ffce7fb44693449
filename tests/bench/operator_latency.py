"""From creating a job to its two pods, on a real API server; beside posting the pods by hand."""

import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.comparison import Comparison, alternate, quantile, shown
from cluster.controlplane import ControlPlane
from cluster.process import Daemon, spawn, wait_until
from integration.api_server import CORE, JOBS, ApiServer
from integration.conftest import install_crd
from ports import free_ports

from trainyard_operator.api import TrainingJob
from trainyard_operator.desired import Defaults, build_pod

BOUND_SECONDS = 0.3
REPETITIONS = 25
PATIENCE_SECONDS = 30
PODS_PATH = f"{CORE}/namespaces/default/pods"
JOBS_PATH = f"{JOBS}/namespaces/default/trainingjobs"
NOW = {"gracePeriodSeconds": 0}


def compare_operator_latency(repetitions: int = REPETITIONS) -> Comparison:
    """One job after another, each until a watch of pods has shown both."""
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-bench-") as place,
        api_server() as api,
        operator(api, Path(place) / "operator.log"),
    ):
        ours, other = Apply(api), PostPods(api)
        ours.measure(), other.measure()
        first, second = alternate(ours.measure, other.measure, repetitions)
    return Comparison(
        what="apply to both pods created",
        other_name="the same pods posted by hand",
        ours=first,
        other=second,
        bound=BOUND_SECONDS,
        bounded="median",
        note=f"95th percentile {shown(quantile(first, 0.95))}; the operator writes the status "
        f"first and also makes a service and an event; its share: "
        f"{shown(median(a - b for a, b in zip(first, second, strict=True)))}",
    )


@dataclass
class Apply:
    """Jobs for the operator."""

    api: ApiServer
    count: int = 0

    def measure(self) -> float:
        """Seconds from the request to the second pod."""
        self.count += 1
        job = build_job(f"job-{self.count}")
        pods = [f"job-{self.count}-{role}-0" for role in ("master", "worker")]
        with PodWatch(self.api, pods) as watch:
            began = time.perf_counter()
            self.api.must("POST", JOBS_PATH, job)
            seconds = watch.wait() - began
        self.api.must("DELETE", f"{JOBS_PATH}/job-{self.count}")
        delete_pods(self.api, pods)
        return seconds


@dataclass
class PostPods:
    """What the API server itself takes."""

    api: ApiServer
    count: int = 0

    def measure(self) -> float:
        """Seconds from the first request to the second pod."""
        self.count += 1
        bodies = build_bare_pods(f"hand-{self.count}")
        pods = [body["metadata"]["name"] for body in bodies]
        with PodWatch(self.api, pods) as watch:
            began = time.perf_counter()
            for body in bodies:
                self.api.must("POST", PODS_PATH, body)
            seconds = watch.wait() - began
        delete_pods(self.api, pods)
        return seconds


@dataclass
class PodWatch:
    """Notes when the last of some pods was created."""

    api: ApiServer
    names: list[str]
    _last: float = 0.0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "PodWatch":
        listed = self.api.must("GET", PODS_PATH)
        version = listed["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "60"}
        session = ApiServer(self.api.plane).session  # A connection that nobody else waits for.
        url = f"{self.api.plane.server}{PODS_PATH}"
        self._answer = session.get(url, params=query, stream=True, timeout=PATIENCE_SECONDS)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.wait(1)
        self._answer.close()

    def wait(self) -> float:
        """When it was, on the clock of perf_counter."""
        if not self._done.wait(PATIENCE_SECONDS):
            raise TimeoutError(f"no pods {self.names} after {PATIENCE_SECONDS} s")
        return self._last

    def _read(self) -> None:
        missing = set(self.names)
        # Chunk by chunk: a larger buffer would wait until it is full.
        for line in self._answer.iter_lines(chunk_size=None):  # type: ignore[call-overload]
            now, event = time.perf_counter(), json.loads(line)
            if event["type"] == "ADDED":
                missing.discard(event["object"]["metadata"]["name"])
            if not missing:
                self._last = now
                self._done.set()
                return


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """With the CRD, and no controller but ours."""
    plane = ControlPlane()
    plane.start()
    try:
        api = ApiServer(plane)
        install_crd(api)
        yield api
    finally:
        plane.stop()


@contextmanager
def operator(api: ApiServer, log: Path) -> Iterator[Daemon]:
    """A process of its own, ready."""
    port = free_ports(1)[0]
    environment = {
        "KUBECONFIG": str(api.plane.kubeconfig("admin")),
        "TRAINYARD_OPERATOR_HEALTH_PORT": str(port),
    }
    command = [sys.executable, "-m", "trainyard_operator"]
    daemon = spawn("operator", command, log, environment=environment)

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_until(is_ready, "operator ready", PATIENCE_SECONDS, [daemon])
        yield daemon
    finally:
        daemon.kill()


def build_job(name: str) -> dict[str, Any]:
    """Two nodes with a program of one's own."""
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodes": 2, "image": "registry.example/mine:1", "command": ["python", "train.py"]},
    }


def build_bare_pods(name: str) -> list[dict[str, Any]]:
    """The operator's pods without the labels and owner by which it would know them."""
    manifest = build_job(name)
    manifest["metadata"] |= {"uid": "1", "generation": 1}
    job = TrainingJob.model_validate(manifest)
    pods = [build_pod(job, 1, node, Defaults()) for node in range(2)]
    return [
        pod | {"metadata": {"name": pod["metadata"]["name"], "namespace": "default"}}
        for pod in pods
    ]


def delete_pods(api: ApiServer, names: list[str]) -> None:
    """At once, since no kubelet would end them."""
    for name in names:
        api.must("DELETE", f"{PODS_PATH}/{name}", NOW)
