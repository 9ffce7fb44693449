"""A program fails on one node and on no other: its third attempt runs elsewhere."""

from typing import Any

from demo.jobs import cluster_template
from e2e.conftest import Cluster
from e2e.kube import Namespace

from trainyard_operator.overlay import merge

NAME = "picky"


def liking(node: str) -> dict[str, Any]:
    """A template whose pods come to that node as long as nothing speaks against it."""
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    wish = {"weight": 100, "preference": {"matchFields": [field]}}
    wishes = {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}
    return {"spec": {"affinity": {"nodeAffinity": wishes}}}


def test_a_node_that_broke_two_attempts_is_avoided_by_the_third(
    namespace: Namespace, cluster: Cluster, make_job: Any
) -> None:
    path = "jsonpath={.items[*].metadata.name}"
    bad = namespace.kubectl("get", "nodes", "-o", path).split()[0]
    template = merge(cluster_template() if cluster.is_own else {}, liking(bad))
    plain = {"recipe": None, "config": None, "checkpoint": None, "dataset": None, "storage": None}
    command = ["sh", "-c", f'test "$TRAINYARD_NODE_NAME" != {bad}']
    policy = {"restartBackoff": {"initialSeconds": 0}}
    namespace.apply(
        make_job(NAME, nodes=1, command=command, runPolicy=policy, **plain | {"template": template})
    )
    status = namespace.wait_for_phase(NAME, "Succeeded")
    assert status["attempt"] == 3, namespace.explain(NAME)
    assert status["nodeFaults"] == [{"node": bad, "attempts": 2, "lastAttempt": 2}]
    second = [entry["message"] for entry in status["history"] if entry["type"] == "Restarted"][1]
    assert second.endswith(f"Node {bad} broke 2 attempts and is avoided from now on.")
