"""A cluster of fake nodes: real API server, scheduler and controllers; KWOK plays the kubelets.

A pod runs as soon as it is scheduled, and ends well at once unless it has the label `stands`; with
the label `reports` its last word is that of a trainer after one step.
"""

import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.build import program
from cluster.controlplane import ControlPlane
from cluster.process import spawn, wait_until
from integration.api_server import CORE, ApiServer
from integration.conftest import install_crd
from ports import free_ports

from trainyard_operator.contract import Report, Summary

NODES = 20
LAST_WORD = Summary(
    exit_code=0,
    message="Done.",
    report=asdict(
        Report(
            attempt=1,
            time="2026-01-01T00:00:00Z",
            progress={"step": 1, "steps": 1, "percent": 100, "metrics": {"loss": "0.5"}},
        )
    ),
).to_json()
OWNERS = ["TrainingJob", "PyTorchJob"]
PATIENCE_SECONDS = 60
# Binding pods is not what is measured; by default it would be, at 50 a second.
SCHEDULER = ["--kube-api-qps=2000", "--kube-api-burst=4000"]
CONTAINERS = """\
{{ $now := Now }}
phase: %s
podIP: %s
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  restartCount: 0
  ready: %s
  state: {%s}
{{ end }}
"""


def own_address() -> str:
    """This machine's, without which there may be none that an Endpoint may have."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # Nothing is sent.
        return str(probe.getsockname()[0])


ADDRESS = own_address()
"""Of all pods: what serves progress here serves it for all of them."""
RUNNING = CONTAINERS % ("Running", ADDRESS, "true", "running: {startedAt: {{ $now | Quote }}}")
END = "terminated: {exitCode: 0, reason: Completed, finishedAt: {{ $now | Quote }}%s}"
ENDED = CONTAINERS % ("Succeeded", ADDRESS, "false", END % "")
REPORTED = CONTAINERS % ("Succeeded", ADDRESS, "false", END % f", message: '{LAST_WORD}'")


@contextmanager
def fake_cluster() -> Iterator[tuple[ApiServer, Path]]:
    """The API server, with our resource, and a folder for logs; all nodes are ready."""
    plane = ControlPlane(controllers=True, scheduler_flags=SCHEDULER)
    plane.start()
    with tempfile.TemporaryDirectory(prefix="trainyard-scale-") as place:
        kwok = None
        try:
            api, folder = ApiServer(plane), Path(place)
            install_crd(api)
            kwok = start_kwok(api, folder)
            for number in range(NODES):
                api.must("POST", f"{CORE}/nodes", build_node(f"fake-{number}"))
            wait_until(lambda: count_ready(api) == NODES, "nodes ready", PATIENCE_SECONDS, [kwok])
            yield api, folder
        finally:
            if kwok:
                kwok.kill()
            plane.stop()


def start_kwok(api: ApiServer, folder: Path) -> Any:
    config = folder / "kwok.yaml"
    config.write_text("\n---\n".join(json.dumps(stage) for stage in build_stages()))
    command = [
        program("kwok"),
        f"--kubeconfig={api.plane.kubeconfig('admin')}",
        f"--config={config}",
        "--manage-all-nodes",
        "--v=WARN",
        f"--server-address=127.0.0.1:{free_ports(1)[0]}",
        "--node-lease-duration-seconds=40",
    ]
    return spawn("kwok", command, folder / "kwok.log")


def build_stages() -> list[dict[str, Any]]:
    """What becomes of a pod that has a node."""
    stays = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    is_new = {"key": ".status.podIP", "operator": "DoesNotExist"}
    runs = {"key": ".status.phase", "operator": "In", "values": ["Running"]}
    is_ours = {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": OWNERS}
    ends = {"key": '.metadata.labels["stands"]', "operator": "DoesNotExist"}
    says = {"key": '.metadata.labels["reports"]', "operator": "Exists"}
    is_mute = {**says, "operator": "DoesNotExist"}
    comes = [stays, runs, is_ours, ends]
    leaves = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    return [
        build_stage("pod-ready", [stays, is_new], {"statusTemplate": RUNNING}),
        build_stage("pod-complete", [*comes, is_mute], {"statusTemplate": ENDED}),
        build_stage("pod-report", [*comes, says], {"statusTemplate": REPORTED}),
        build_stage("pod-delete", [leaves], {"finalizers": {"empty": True}, "delete": True}),
    ]


def build_stage(name: str, rules: list[dict[str, Any]], following: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchExpressions": rules},
            "next": following,
        },
    }


def build_node(name: str) -> dict[str, Any]:
    room = {"cpu": "1000", "memory": "1Ti", "pods": "10000"}
    labels = {"kubernetes.io/hostname": name}
    status = {"allocatable": room, "capacity": room}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


def count_ready(api: ApiServer) -> int:
    """A node that was made is tainted until a controller has seen it."""
    nodes = api.must("GET", f"{CORE}/nodes")["items"]
    free = [node for node in nodes if not node["spec"].get("taints")]
    conditions = [c for node in free for c in node["status"].get("conditions", ())]
    return sum(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
