"""A node is lost for good: an elastic job goes on without it, and takes it back when it returns."""

from typing import Any

import pytest
from chaos.nodes import operators
from cluster import fullcluster
from e2e.conftest import Cluster
from e2e.kube import Namespace

pytestmark = pytest.mark.slow
NAME = "rubber"
WIDE = {"limits": {"memory": "2Gi"}, "requests": {"cpu": "1100m"}}
"""Two of these do not fit on one node of two cores."""


def node_to_lose(namespace: Namespace) -> str:
    """That of a pod of the job, but not where the operator acts."""
    path, selector = "jsonpath={.items[*].spec.nodeName}", f"trainyard.dev/job={NAME}"
    used = namespace.kubectl("get", "pods", "-l", selector, "-o", path).split()
    return next(node for node in used if node != operators.leader()["spec"]["nodeName"])


def has_trained(nodes: int, beyond: int) -> Any:
    """Whether a whole gang of so many nodes reported a step beyond that one."""

    def question(status: dict[str, Any]) -> bool:
        progress, ready = status.get("progress") or {}, status["nodes"].get("ready")
        is_whole = (ready, status["nodes"].get("desired")) == (nodes, nodes)
        is_newest = progress.get("attempt") == status["attempt"]
        return is_whole and is_newest and progress.get("step", 0) > beyond

    return question


def test_job_does_with_one_node_and_then_with_two_again(
    namespace: Namespace, cluster: Cluster, make_job: Any
) -> None:
    if not cluster.is_own:
        pytest.skip("it kills a node")
    job = make_job(NAME, elastic={"minNodes": 1, "maxNodes": 2}, resources=WIDE)
    job["spec"]["config"]["training"]["epochs"] = 2000
    namespace.apply(job)
    before = namespace.wait_until(NAME, has_trained(2, 40), "training with two nodes")
    node = node_to_lose(namespace)
    fullcluster.kill_node(node)
    try:
        narrow = namespace.wait_until(NAME, has_trained(1, 40), "training with one node")
    finally:
        fullcluster.start_node(node)
    assert narrow["elastic"]["nodes"] == 1
    step = narrow["progress"]["step"]
    wide = namespace.wait_until(NAME, has_trained(2, step), "training with two nodes again")
    assert "elastic" not in wide
    assert wide["progress"]["steps"] == narrow["progress"]["steps"] == before["progress"]["steps"]
    assert wide["restarts"]["user"] == 0
    types = [entry["type"] for entry in wide["history"]]
    assert [kind for kind in types if kind in {"Narrowed", "Widened"}] == ["Narrowed", "Widened"]
    namespace.kubectl("delete", "tj", NAME)
