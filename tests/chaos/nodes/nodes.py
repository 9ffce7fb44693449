"""Which node is lost, and how the gang gets back onto both."""

import json

from chaos.nodes import operators
from chaos.nodes.arena import Arena
from cluster import fullcluster
from cluster.network import NODES

SPREAD = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "podAffinityTerm": {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {
                        "matchExpressions": [{"key": "trainyard.dev/job", "operator": "Exists"}]
                    },
                },
            }
        ]
    }
}
"""Of a job's pods: a node each, while there are two."""


def lost_node(arena: Arena) -> str:
    """A node with a pod of the gang, on which no operator acts."""
    taken = operators.leader()["spec"]["nodeName"]
    used = {pod["spec"]["nodeName"] for pod in arena.pods().values()}
    free = sorted(used - {taken})
    assert free, f"the gang is on {used}, the operator on {taken}: no node can be lost"
    return free[0]


def mend_nodes() -> None:
    """Bring back every node that a fault left killed or cut off."""
    for node in NODES:
        fullcluster.start_node(node.name)
    fullcluster.wait_until_ready()


def respread(arena: Arena) -> None:
    """With both nodes back, move the gang onto both, unless its job is over."""
    names = {node.name for node in NODES}
    arena.wait(lambda: _ready(arena) == names, "both nodes ready")
    pods = arena.pods()
    used = {pod["spec"].get("nodeName") for pod in pods.values()}
    if used == names or arena.status()["phase"] != "Running":
        return
    mark = arena.mark()
    arena.namespace.delete_pod(arena.pod_name(1))
    arena.next_step(mark, same_attempt=False)


def _ready(arena: Arena) -> set[str]:
    """Nodes that are ready and that the scheduler uses."""
    nodes = arena.namespace.api.must("GET", "/api/v1/nodes")["items"]
    return {
        node["metadata"]["name"]
        for node in nodes
        if "not-ready" not in json.dumps(node["spec"].get("taints", []))
        and "unreachable" not in json.dumps(node["spec"].get("taints", []))
    }
