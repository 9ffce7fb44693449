"""The operator's own pods: killed, scaled, and one of two cut off from the API server."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from chaos.nodes import victims
from cluster import fullcluster
from cluster.controlplane import ControlPlane
from cluster.network import HOST_ADDRESS
from cluster.process import run
from demo.install import NAMESPACE
from integration.api_server import MERGE_PATCH, ApiServer

DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/trainyard-operator"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
READY_SECONDS = 60


def leader() -> dict[str, Any]:
    """The pod of the operator that acts. Raises AssertionError if none has the Lease."""
    api = _api()
    leases = api.must("GET", LEASES)["items"]
    holders = [lease["spec"].get("holderIdentity", "") for lease in leases]
    for pod in _pods(api):
        if any(holder.startswith(pod["metadata"]["name"]) for holder in holders):
            return pod
    raise AssertionError(f"no operator has the Lease: {holders}")


def wait_until_led() -> None:
    """Until an operator that is alive acts: what is measured then is the fault alone."""
    _wait(lambda: bool(leader()), "operator that acts")


def kill_leader() -> None:
    """SIGKILL to the operator that acts; to all, if that one is dead already."""
    try:
        _kill([leader()])
    except AssertionError:
        kill()


def kill() -> None:
    """SIGKILL to all."""
    _kill(_pods(_api()))


def _kill(pods: list[dict[str, Any]]) -> None:
    """The pods are deleted by force, too: a new one comes at once, where a container that died
    would wait for the kubelet's back-off."""
    api = _api()
    for pod in pods:
        for pid in victims.processes_of(pod["metadata"]["uid"]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        path = f"{PODS}/{pod['metadata']['name']}"
        api.send("DELETE", path, {"gracePeriodSeconds": 0})


@contextmanager
def none() -> Iterator[None]:
    """No operator for as long as the block lasts."""
    api = _api()
    before = api.must("GET", DEPLOYMENT)["spec"]["replicas"]
    _set(api, 0)
    kill()
    _wait(lambda: not _pods(api), "no operator")
    try:
        yield
    finally:
        _set(api, before)


def wait_until_ready(count: int | None = None) -> None:
    """Until all operators that should be there are ready."""
    api = _api()

    def question() -> bool:
        found = api.must("GET", DEPLOYMENT)
        wanted = found["spec"]["replicas"] if count is None else count
        return bool(found["status"].get("readyReplicas", 0) >= wanted)

    _wait(question, "operator ready")


def spread() -> None:
    """Where all operators are on one node, move one that does not act to the other."""
    api = _api()
    wait_until_ready(2)
    pods, acting = _pods(api), leader()["metadata"]["name"]
    if len({pod["spec"]["nodeName"] for pod in pods}) == 1:
        _kill([pod for pod in pods if pod["metadata"]["name"] != acting][:1])
        _wait(lambda: len({p["spec"].get("nodeName") for p in _pods(api)}) > 1, "spread")
        wait_until_ready(2)


@contextmanager
def two() -> Iterator[None]:
    """At least two operators for as long as the block lasts."""
    api = _api()
    before = api.must("GET", DEPLOYMENT)["spec"]["replicas"]
    if before < 2:
        _set(api, 2)
    wait_until_ready(2)
    try:
        yield
    finally:
        if before < 2:
            _set(api, before)
        wait_until_ready()


@contextmanager
def partitioned_leader() -> Iterator[None]:
    """The operator that leads runs on and reaches pods, but not the API server."""
    pod = leader()
    address, node = pod["status"]["podIP"], pod["spec"]["nodeName"]
    space = fullcluster.runtime(node).node.namespace_path
    rule = ["FORWARD", "-s", address, "-d", HOST_ADDRESS]
    rule += ["-p", "tcp", "--dport", str(fullcluster.API_PORT), "-j", "DROP"]
    run(["nsenter", f"--net={space}", "iptables", "-I", *rule])
    try:
        yield
    finally:
        run(["nsenter", f"--net={space}", "iptables", "-D", *rule])


def _api() -> ApiServer:
    plane: ControlPlane = fullcluster.control_plane()
    return ApiServer(plane)


def _set(api: ApiServer, replicas: int) -> None:
    api.must("PATCH", DEPLOYMENT, {"spec": {"replicas": replicas}}, headers=MERGE_PATCH)


def _pods(api: ApiServer) -> list[dict[str, Any]]:
    found = api.must("GET", PODS)["items"]
    return [pod for pod in found if "operator" in pod["metadata"]["name"]]


def _wait(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with suppress(requests.RequestException, AssertionError):
            if question():
                return
        time.sleep(0.2)
    raise AssertionError(f"not {what} after {READY_SECONDS} s")
