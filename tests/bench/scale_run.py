"""One round: so many two-pod jobs at once, by threads, until a watch has seen all succeed."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench.process import cpu_seconds, peak_mb
from integration.api_server import CORE, JOBS, ApiServer
from integration.kubeflow import PYTORCHJOBS

CLIENTS = 8
PATIENCE_SECONDS = 900
IMAGE = "registry.example/mine:1"
COMMAND = ["python", "train.py"]


@dataclass(frozen=True)
class Kind:
    """Of job: ours or theirs."""

    root: str
    plural: str
    build: Callable[[str], dict[str, Any]]

    def path(self, namespace: str) -> str:
        return f"{self.root}/namespaces/{namespace}/{self.plural}"


@dataclass(frozen=True)
class Round:
    """What it took."""

    seconds: float
    """From the first job to the last that succeeded."""
    cpu_seconds: float
    """Of the operator."""
    peak_mb: float
    """Of the operator's memory, in 1,000,000 bytes."""
    cluster_cpu_seconds: float
    """Of API server, etcd, scheduler and controllers: what the operator asked them for."""


def build_training_job(name: str) -> dict[str, Any]:
    spec = {"nodes": 2, "image": IMAGE, "command": COMMAND}
    head = {"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob"}
    return {**head, "metadata": {"name": name}, "spec": spec}


def build_standing_job(name: str) -> dict[str, Any]:
    """Its pods run for ever."""
    job = build_training_job(name)
    job["spec"]["template"] = {"metadata": {"labels": {"stands": "true"}}}
    return job


def build_peer_job(name: str) -> dict[str, Any]:
    container = {"name": "pytorch", "image": IMAGE, "command": COMMAND}
    template = {"spec": {"containers": [container]}}
    replica = {"replicas": 1, "restartPolicy": "Never", "template": template}
    spec = {"pytorchReplicaSpecs": {"Master": replica, "Worker": replica}}
    head = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
    return {**head, "metadata": {"name": name}, "spec": spec}


OURS = Kind(JOBS, "trainingjobs", build_training_job)
STANDING = Kind(JOBS, "trainingjobs", build_standing_job)
THEIRS = Kind(PYTORCHJOBS, "pytorchjobs", build_peer_job)


def run_round(api: ApiServer, kind: Kind, namespace: str, count: int, pid: int) -> Round:
    """Its namespace is emptied before it returns."""
    api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": namespace}})
    time.sleep(2)  # Until it has its ServiceAccount.
    cluster = [daemon.process.pid for daemon in api.plane.daemons]
    before, cluster_before = cpu_seconds(pid), sum(map(cpu_seconds, cluster))
    with Watch(api, kind.path(namespace), has_succeeded, count) as watch:
        began = time.perf_counter()
        create_jobs(api, kind, namespace, count)
        ended = watch.wait()
    found = Round(
        seconds=ended - began,
        cpu_seconds=cpu_seconds(pid) - before,
        peak_mb=peak_mb(pid),
        cluster_cpu_seconds=sum(map(cpu_seconds, cluster)) - cluster_before,
    )
    empty(api, kind, namespace)
    return found


def create_jobs(api: ApiServer, kind: Kind, namespace: str, count: int) -> None:
    """At once: each thread with a connection of its own."""
    path, local = kind.path(namespace), threading.local()

    def create(number: int) -> None:
        if not hasattr(local, "api"):
            local.api = ApiServer(api.plane)
        local.api.must("POST", path, kind.build(f"job-{number}"))

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(create, range(count)))


@dataclass
class Watch:
    """Notes when so many objects of a collection have first answered a question with yes."""

    api: ApiServer
    path: str
    question: Callable[[dict[str, Any]], bool]
    count: int
    seen: set[str] = field(default_factory=set)
    _last: float = 0.0
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        version = self.api.must("GET", self.path, params={"limit": "1"})
        self._open(version["metadata"]["resourceVersion"])
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _open(self, version: str) -> None:
        query = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(PATIENCE_SECONDS),
        }
        url = f"{self.api.plane.server}{self.path}"
        session = ApiServer(self.api.plane).session
        self._answer = session.get(url, params=query, stream=True, timeout=PATIENCE_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._answer.close()

    def wait(self) -> float:
        """When the last was seen, on the clock of perf_counter."""
        if not self._done.wait(PATIENCE_SECONDS):
            raise TimeoutError(f"{len(self.seen)} of {self.count} after {PATIENCE_SECONDS} s")
        return self._last

    def _read(self) -> None:
        while not self._done.is_set():
            # Chunk by chunk: a larger buffer would wait until it is full.
            for line in self._answer.iter_lines(chunk_size=None):  # type: ignore[call-overload]
                event = json.loads(line)
                if event["type"] != "ERROR":
                    self._note(event["object"])
                if self._done.is_set():
                    return
            # An API server ends the watch of who is slow to read: on a busy machine, us.
            found = ApiServer(self.api.plane).must("GET", self.path)
            for item in found["items"]:
                self._note(item)
            self._open(found["metadata"]["resourceVersion"])

    def _note(self, item: dict[str, Any]) -> None:
        if self.question(item):
            self.seen.add(item["metadata"]["name"])
        if len(self.seen) >= self.count and not self._done.is_set():
            self._last = time.perf_counter()
            self._done.set()


def has_succeeded(job: dict[str, Any]) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Succeeded" and c["status"] == "True" for c in conditions)


def empty(api: ApiServer, kind: Kind, namespace: str) -> None:
    """So that the next round finds what this one found; nothing is left to be collected."""
    core = f"{CORE}/namespaces/{namespace}"
    for path in (f"{core}/services", f"{core}/pods", kind.path(namespace)):
        while api.send("DELETE", path, {"gracePeriodSeconds": 0}).status_code != 200:
            time.sleep(1)
