"""Every alert fires on nodes when what it tells of is so; those of jobs and the queue end with it.

A Prometheus on this machine scrapes the operator's pods, which reach the API server through a proxy
that can slow it; the rules have seconds for minutes.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
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
from faults.tcp_proxy import TcpProxy
from integration.monitoring import Prometheus, quick_rules, watching

pytestmark = pytest.mark.slow

NAME = "watched"
DEPLOYMENT = "deployment/trainyard-operator"
ROLE = "clusterrole/trainyard-operator"
WAITING = 60
SEND = """
import os, signal, sys
pid = int(open(f"{os.environ['TRAINYARD_SCRATCH']}/rank-0.pid").read())
os.kill(pid, getattr(signal, sys.argv[1]))
"""


@pytest.fixture(scope="module")
def api_server() -> Iterator[TcpProxy]:
    """As the operator reaches it."""
    port = int(fullcluster.api_server().rpartition(":")[2])
    proxy = TcpProxy(port, host=HOST_ADDRESS)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def system(cluster: Cluster, api_server: TcpProxy) -> Iterator[Namespace]:
    """The operator's, which looks at one job at a time; at the end it runs as before."""
    if not cluster.is_own:
        pytest.skip("it stops the operator of the cluster, which is not ours")
    system = Namespace(NAMESPACE, cluster.environment)
    host, _, port = api_server.address.rpartition(":")
    settings = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    settings["TRAINYARD_OPERATOR_WORKERS"] = "1"
    system.kubectl("set", "env", DEPLOYMENT, *(f"{key}={settings[key]}" for key in settings))
    until_rolled_out(system)
    yield system
    system.kubectl("scale", DEPLOYMENT, "--replicas=2")
    system.kubectl("set", "env", DEPLOYMENT, *(f"{key}-" for key in settings))
    until_rolled_out(system)


def until_rolled_out(system: Namespace) -> None:
    """All pods that are left are new, or about to end."""
    system.kubectl("rollout", "status", DEPLOYMENT, "--timeout=150s")


@pytest.fixture(scope="module")
def prometheus(system: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    pods = json.loads(system.kubectl("get", "pods", "-o", "json"))["items"]
    operators = {
        pod["metadata"]["name"]: f"{pod['status']['podIP']}:8080"
        for pod in pods
        if "-operator-" in pod["metadata"]["name"] and "deletionTimestamp" not in pod["metadata"]
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


def test_alert_of_the_queue_fires_while_the_api_server_is_too_slow(
    prometheus: Prometheus, namespace: Namespace, make_job: Any, api_server: TcpProxy
) -> None:
    alert = ("TrainyardQueueGrows", "")
    waiting = [make_job(f"waits-{n}", runPolicy={"suspend": True}) for n in range(WAITING)]
    api_server.delay_seconds = 0.5
    many = {"apiVersion": "v1", "kind": "List", "items": waiting}
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(many))
    prometheus.until(lambda: alert in prometheus.firing(), "TrainyardQueueGrows")
    api_server.delay_seconds = 0
    prometheus.until(lambda: alert not in prometheus.firing(), "its end")
    namespace.kubectl("delete", "tj", *(job["metadata"]["name"] for job in waiting))


def test_alert_of_looks_fires_while_the_operator_may_not_write(
    prometheus: Prometheus, system: Namespace, job: Namespace
) -> None:
    alert = ("TrainyardLooksFail", "")
    assert alert not in prometheus.firing()
    with without_writing_status(system):
        prometheus.until(lambda: alert in prometheus.firing(), "TrainyardLooksFail")
    step = job.status(NAME)["progress"]["step"]
    job.wait_until(NAME, lambda status: status["progress"]["step"] > step, "told again")


@contextmanager
def without_writing_status(system: Namespace) -> Iterator[None]:
    """The operator may not, meanwhile."""
    rules = json.loads(system.kubectl("get", ROLE, "-o", "json"))["rules"]
    fewer = [rule for rule in rules if "trainingjobs/status" not in rule["resources"]]
    assert len(fewer) == len(rules) - 1
    set_rules(system, fewer)
    try:
        yield
    finally:
        set_rules(system, rules)


def set_rules(system: Namespace, rules: list[dict[str, Any]]) -> None:
    system.kubectl("patch", ROLE, "--type=merge", "-p", json.dumps({"rules": rules}))


def test_alert_of_no_leader_fires_while_there_is_no_operator(
    prometheus: Prometheus, system: Namespace
) -> None:
    alert = ("TrainyardNoLeader", "")
    assert alert not in prometheus.firing()
    system.kubectl("scale", DEPLOYMENT, "--replicas=0")
    prometheus.until(lambda: alert in prometheus.firing(), "TrainyardNoLeader")
