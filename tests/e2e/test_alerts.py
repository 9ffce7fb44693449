"""Alerts fire on nodes when what they tell of is so, and end with it.

A Prometheus on this machine scrapes the operator's pods; the rules have seconds for minutes. The
others are in tests/integration/test_alerts_fire.py.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import fullcluster
from cluster.network import HOST_ADDRESS
from demo.install import NAMESPACE
from demo.jobs import BUCKET
from e2e.conftest import Cluster
from e2e.kube import Namespace
from faults.s3_actions import answer
from faults.s3_proxy import S3Proxy
from integration.monitoring import Prometheus, quick_rules, watching

pytestmark = pytest.mark.slow

NAME = "watched"
DEPLOYMENT = "deployment/trainyard-operator"
SEND = """
import os, signal, sys
pid = int(open(f"{os.environ['TRAINYARD_SCRATCH']}/rank-0.pid").read())
os.kill(pid, getattr(signal, sys.argv[1]))
"""


@pytest.fixture(scope="module")
def system(cluster: Cluster) -> Iterator[Namespace]:
    """The operator's; at the end it runs again."""
    if not cluster.is_own:
        pytest.skip("it stops the operator of the cluster, which is not ours")
    system = Namespace(NAMESPACE, cluster.environment)
    yield system
    system.kubectl("scale", DEPLOYMENT, "--replicas=2")
    system.kubectl("rollout", "status", DEPLOYMENT, "--timeout=120s")


@pytest.fixture(scope="module")
def prometheus(system: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    pods = json.loads(system.kubectl("get", "pods", "-o", "json"))["items"]
    operators = {
        pod["metadata"]["name"]: f"{pod['status']['podIP']}:8080"
        for pod in pods
        if "-operator-" in pod["metadata"]["name"] and pod["status"].get("podIP")
    }
    with watching(folder, operators, quick_rules(folder)) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def storage(system: Namespace) -> Iterator[S3Proxy]:
    """What can be broken of the cluster's S3."""
    with S3Proxy(fullcluster.s3_access(), HOST_ADDRESS) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def job(namespace: Namespace, make_job: Any, storage: S3Proxy) -> Iterator[Namespace]:
    """Trains, and saves about each second."""
    secret = {"name": "s3-credentials"}
    place = {"uri": f"s3://{BUCKET}/runs", "endpoint": storage.access.endpoint}
    checkpoint = {"everySteps": 20, "keepLast": 2}
    manifest = make_job(
        NAME, storage={**place, "credentialsSecretRef": secret}, checkpoint=checkpoint
    )
    manifest["spec"]["config"]["training"]["epochs"] = 2000
    namespace.apply(manifest)
    namespace.wait_until(NAME, has_saved, "saved")
    yield namespace
    namespace.kubectl("delete", "tj", NAME)


def has_saved(status: dict[str, Any]) -> bool:
    return bool((status.get("checkpoints") or {}).get("latest"))


def until(prometheus: Prometheus, *alerts: str, fires: bool = True) -> None:
    wanted = {(alert, NAME) for alert in alerts}
    prometheus.until(
        lambda: wanted <= prometheus.firing() if fires else not wanted & prometheus.firing(),
        f"{alerts} {'fire' if fires else 'end'}",
    )


def test_alerts_of_storage_fire_while_it_is_away(
    prometheus: Prometheus, job: Namespace, storage: S3Proxy
) -> None:
    alerts = ("TrainyardStorageDegraded", "TrainyardNoCheckpoint")
    until(prometheus, *alerts, fires=False)
    with storage.during(answer(503, "SlowDown"), method="P*"):
        until(prometheus, *alerts)
    until(prometheus, *alerts, fires=False)


def test_alert_of_a_stalled_job_fires_while_a_rank_is_stopped(
    prometheus: Prometheus, job: Namespace
) -> None:
    until(prometheus, "TrainyardJobStalled", fires=False)
    send(job, "SIGSTOP")
    until(prometheus, "TrainyardJobStalled")
    send(job, "SIGCONT")
    until(prometheus, "TrainyardJobStalled", fires=False)
    assert job.status(NAME)["attempt"] == 1


def send(job: Namespace, signal: str) -> None:
    """To rank 0."""
    words = ("python3", "-c", SEND, signal)
    job.kubectl("exec", f"{NAME}-master-0", "-c", "pytorch", "--", *words)


def test_alert_of_no_leader_fires_while_there_is_no_operator(
    prometheus: Prometheus, system: Namespace
) -> None:
    alert = ("TrainyardNoLeader", "")
    assert alert not in prometheus.firing()
    system.kubectl("scale", DEPLOYMENT, "--replicas=0")
    prometheus.until(lambda: alert in prometheus.firing(), "TrainyardNoLeader")
