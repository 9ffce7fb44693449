"""Proves the test cluster: two pods that train together, and nothing left after `down`.

python3 tests/cluster/smoke.py          # 3 minutes; leaves the cluster up
"""

from __future__ import annotations

import json
import secrets
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cluster import cgroup, clean, fullcluster
from cluster.console import ClusterError, say, step
from cluster.image import POD_USER
from cluster.namespace import SECRET, kubectl, prepare_namespace
from cluster.network import NODES, SERVICE_RANGE
from cluster.process import run, wait_until

NAMESPACE = "smoke"
PORT = 8000
TEMPLATE = Path(__file__).with_name("pod-template.yaml")


def main() -> None:
    """Each step is a claim; the first that is not so ends it with exit code 1."""
    fullcluster.up()
    with step("a second `up` changes nothing"):
        fullcluster.up()
    check_node_loss()
    check_pods()
    with step("after all processes are killed, `up` starts anew"):
        cgroup.kill_all(cgroup.ROOT)
        fullcluster.up()
    check_pods()
    check_down()
    fullcluster.up()
    say("The test cluster works.")


def check_pods() -> None:
    with step("a restricted namespace with its volumes"):
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=90s")
        prepare_namespace(NAMESPACE)
    with step("two pods on two nodes train, store and find each other"):
        bucket = f"smoke-{secrets.token_hex(4)}"
        pods = [build_pod(rank, bucket) for rank in range(len(NODES))]
        objects = build_list([build_service(), build_web_service(), *pods])
        kubectl("apply", "--filename=-", stdin=json.dumps(objects))
        for rank in range(len(NODES)):
            wait_until(partial(is_well, rank), f"pod {rank} is well", 120)
    with step("the host reaches a pod and a Service"):
        for kind, path in (("pod/smoke-1", "podIP"), ("service/smoke-web", "clusterIP")):
            field = f"jsonpath={{..{path}}}"
            address = kubectl("get", "-n", NAMESPACE, kind, f"--output={field}").split()[0]
            port = "" if kind.startswith("service") else f":{PORT}"
            with urllib.request.urlopen(f"http://{address}{port}", timeout=5) as answer:
                assert answer.read() == b"hello"
    with step("`kubectl exec` works, and the pods succeed"):
        for rank in range(len(NODES)):
            kubectl("exec", "-n", NAMESPACE, f"smoke-{rank}", "--", "touch", "/tmp/finish")
        done = "--for=jsonpath={.status.phase}=Succeeded"
        kubectl("wait", "-n", NAMESPACE, done, "--timeout=30s", "pod", "--all")
    with step("the namespace goes"):
        kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")


def check_node_loss() -> None:
    lost = NODES[1]
    with step(f"{lost.name} loses power and is noticed"):
        fullcluster.kill_node(lost.name)
        wait_until(lambda: not fullcluster.is_ready(lost), f"{lost.name} not ready", 40)
    with step(f"{lost.name} comes back"):
        fullcluster.start_node(lost.name)
        fullcluster.wait_until_ready()
    with step(f"{lost.name} loses its cable and is noticed"):
        fullcluster.cut_node(lost.name)
        wait_until(lambda: not fullcluster.is_ready(lost), f"{lost.name} not ready", 40)
        fullcluster.start_node(lost.name)
        fullcluster.wait_until_ready()


def check_down() -> None:
    fullcluster.down()
    rules = run(["iptables-save"])
    routes = run(["ip", "route"])
    mounts = Path("/proc/self/mountinfo").read_text()
    if left := clean.leftovers():
        raise ClusterError(f"`down` leaves {', '.join(left)}")
    for name, text in {"rule": rules, "route": routes, "mount": mounts}.items():
        if "trainyard" in text or "KUBE-" in text or SERVICE_RANGE in text:
            raise ClusterError(f"`down` leaves a {name}:\n{text}")


def is_well(rank: int) -> bool:
    pod = ["-n", NAMESPACE, f"smoke-{rank}"]
    phase = kubectl("get", "pod", *pod, "--output=jsonpath={.status.phase}")
    if phase == "Pending":
        return False
    log = kubectl("logs", *pod)
    if phase == "Failed":
        raise ClusterError(f"smoke-{rank} failed:\n{log}")
    return "all is well" in log


def build_pod(rank: int, bucket: str) -> dict[str, Any]:
    """The pod of one rank: what an operator would make, with the template laid over it."""
    user = {"runAsNonRoot": True, "runAsUser": POD_USER, "fsGroup": POD_USER}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"smoke-{rank}",
            "namespace": NAMESPACE,
            "labels": {"app": "smoke", "rank": str(rank)},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "hostname": f"smoke-{rank}",
            "subdomain": "smoke",
            "nodeSelector": {"kubernetes.io/hostname": NODES[rank].name},
            "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [build_container(rank, bucket)],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
    files = ["--filename=-", "--patch-file", str(TEMPLATE)]
    return dict(json.loads(kubectl("patch", "--local", *files, "-o=json", stdin=json.dumps(pod))))


def build_container(rank: int, bucket: str) -> dict[str, Any]:
    access = fullcluster.s3_access()
    environment = {
        "RANK": str(rank),
        "WORLD_SIZE": str(len(NODES)),
        "MASTER_ADDR": "smoke-0.smoke",
        "MASTER_PORT": "29500",
        "BUCKET": bucket,
        "S3_ENDPOINT": access.endpoint,
        "AWS_REGION": access.region,
    }
    return {
        "name": "pytorch",
        "image": "replaced-by-the-template",
        "command": ["python3", "/src/tests/cluster/smoke_pod.py"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "resources": {"limits": {"memory": "2Gi"}, "requests": {"cpu": "100m"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def build_service() -> dict[str, Any]:
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"app": "smoke"}}
    return _build_service("smoke", spec)


def build_web_service() -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": PORT}]
    return _build_service("smoke-web", {"selector": {"rank": "0"}, "ports": ports})


def build_list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _build_service(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


if __name__ == "__main__":
    try:
        main()
    except (ClusterError, AssertionError) as error:
        say(f"error: {error}")
        sys.exit(1)
