"""Two replicas on a real API server, whose audit log says who wrote what and when."""

import base64
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cluster.controlplane import ControlPlane
from cluster.process import tail, wait_until
from faults.tcp_proxy import TcpProxy
from integration.api_server import ApiServer, Namespace
from integration.conftest import (
    SYSTEM,
    Operator,
    install_crd,
    install_rights,
    make_operator,
    write_kubeconfig,
)
from patience import WAIT_SECONDS, lateness

MakeJob = Callable[..., dict[str, Any]]
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/trainyard-operator"
CRASH_SECONDS, STOP_SECONDS = 20, 10
ACTING_SECONDS = 12
"""A Lease's: no other replica acts sooner."""
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}]},
        {"level": "Metadata", "verbs": ["create", "patch", "update", "delete"]},
    ],
}
LOST = ("is held by second", "was not renewed for 8 s")
"""What a leader may find first when it goes on: the latter if it was stopped while it renewed."""
CREDENTIAL = "authentication.kubernetes.io/credential-id"


@dataclass
class Replica:
    """An operator behind a proxy of its own; the token tells it apart."""

    name: str
    operator: Operator
    proxy: TcpProxy

    @property
    def process(self) -> Any:
        assert self.operator.daemon is not None
        return self.operator.daemon.process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def credential(self) -> str:
        """As the audit log names it."""
        config = json.loads(self.operator.kubeconfig.read_text())
        payload = config["users"][0]["user"]["token"].split(".")[1]
        return f"JTI={json.loads(base64.urlsafe_b64decode(payload + '=='))['jti']}"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "log"


@pytest.fixture(scope="module")
def api(audit: Path) -> Iterator[ApiServer]:
    policy = audit.with_name("policy.json")
    policy.write_text(json.dumps(POLICY))
    flags = [f"--audit-policy-file={policy}", f"--audit-log-path={audit}"]
    plane = ControlPlane(api_server_flags=flags)
    plane.start()
    api = ApiServer(plane)
    install_rights(api)
    install_crd(api)
    yield api
    plane.stop()


@pytest.fixture
def replicas(api: ApiServer, tmp_path: Path) -> Iterator[tuple[Replica, Replica]]:
    """The first leads, the second waits."""
    api.send("DELETE", LEASE)  # Of a replica that an earlier test killed.
    found = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        proxy = TcpProxy(api.plane.port)
        kubeconfig = write_kubeconfig(api, folder / "kubeconfig")
        kubeconfig.write_text(kubeconfig.read_text().replace(api.plane.server[8:], proxy.address))
        operator = make_operator(kubeconfig, folder)
        operator.environment |= {
            "TRAINYARD_OPERATOR_LEASE_NAMESPACE": SYSTEM,
            "TRAINYARD_OPERATOR_IDENTITY": f"{name}-{tmp_path.name}",
        }
        operator.start()
        found.append(Replica(name, operator, proxy))
        if name == "first":
            wait_until_leads(api, found[0])
    yield found[0], found[1]
    for replica in found:
        replica.operator.kill()
        replica.proxy.close()
        print(f"{replica.name}:\n{tail(replica.operator.log, 60)}")


def wait_until_leads(api: ApiServer, replica: Replica) -> None:
    identity = replica.operator.environment["TRAINYARD_OPERATOR_IDENTITY"]
    wait_until(lambda: holder_of(api) == identity, f"{replica.name} leads", WAIT_SECONDS)


@pytest.fixture
def late(tmp_path: Path) -> Iterator[Callable[[], float]]:
    with lateness(tmp_path / "written") as seconds:
        yield seconds


@contextmanager
def at_work_within(seconds: float, late: Callable[[], float]) -> Iterator[None]:
    """The block takes no longer, but for what a busy machine costs."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    print(f"took {took:.1f} of {seconds} s")
    assert took < seconds + late()


def holder_of(api: ApiServer) -> str | None:
    answer = api.send("GET", LEASE)
    return answer.json()["spec"].get("holderIdentity") if answer.ok else None


def writes(audit: Path, replica: Replica) -> list[tuple[float, str]]:
    """When each was answered, and what it was; those of the Lease are left out."""
    found = []
    for line in audit.read_text().splitlines():
        entry = json.loads(line)
        if replica.credential in entry["user"].get("extra", {}).get(CREDENTIAL, ()):
            time_ = datetime.fromisoformat(entry["stageTimestamp"]).timestamp()
            found.append((time_, f"{entry['verb']} {entry['requestURI']}"))
    return found


def assert_one_after_the_other(audit: Path, first: Replica, second: Replica) -> None:
    """And each has written something."""
    before, after = writes(audit, first), writes(audit, second)
    assert max(before)[0] < min(after)[0], f"{before[-3:]} {after[:3]}"


def run_job(namespace: Namespace, name: str, make_job: MakeJob) -> None:
    """Its pod is made, once, and told of once."""
    namespace.create(make_job(name, nodes=1))
    namespace.wait(lambda: f"{name}-master-0" in namespace.pods(), f"pod of {name}")
    namespace.wait(lambda: namespace.events(name), "its event")
    assert [reason for _, reason, _ in namespace.events(name)] == ["Starting"]


def test_replica_that_waits_is_ready_and_writes_nothing(
    replicas: tuple[Replica, Replica], namespace: Namespace, audit: Path, make_job: MakeJob
) -> None:
    first, second = replicas
    run_job(namespace, "before", make_job)
    assert [r.operator.metric("trainyard_leader") for r in replicas] == [1, 0]
    assert second.operator.get("/readyz").text == second.operator.get("/healthz").text == "ok"
    assert second.operator.metric("trainyard_queue_depth") == 0
    assert (len(writes(audit, first)) >= 4, writes(audit, second)) == (True, [])


def test_kill_is_taken_over_in_twenty_seconds(
    replicas: tuple[Replica, Replica],
    namespace: Namespace,
    audit: Path,
    make_job: MakeJob,
    late: Callable[[], float],
) -> None:
    first, second = replicas
    run_job(namespace, "before", make_job)
    first.operator.kill()
    with at_work_within(CRASH_SECONDS, late):
        run_job(namespace, "after", make_job)
    assert_one_after_the_other(audit, first, second)
    assert [reason for _, reason, _ in namespace.events("before")] == ["Starting"]


def test_clean_stop_hands_over_at_once(
    replicas: tuple[Replica, Replica],
    namespace: Namespace,
    audit: Path,
    make_job: MakeJob,
    late: Callable[[], float],
) -> None:
    first, second = replicas
    run_job(namespace, "before", make_job)
    first.signal(signal.SIGTERM)
    with at_work_within(STOP_SECONDS, late):
        run_job(namespace, "after", make_job)
    assert first.process.wait(WAIT_SECONDS) == 0
    assert_one_after_the_other(audit, first, second)


def test_stopped_leader_does_nothing_when_it_goes_on(
    replicas: tuple[Replica, Replica],
    namespace: Namespace,
    audit: Path,
    make_job: MakeJob,
    late: Callable[[], float],
) -> None:
    first, second = replicas
    run_job(namespace, "before", make_job)
    first.signal(signal.SIGSTOP)
    with at_work_within(CRASH_SECONDS, late):
        run_job(namespace, "meanwhile", make_job)
    namespace.delete_pod("before-master-0")  # Both would have to answer that.
    first.signal(signal.SIGCONT)
    assert first.process.wait(WAIT_SECONDS) == 1
    run_job(namespace, "after", make_job)
    assert_one_after_the_other(audit, first, second)
    assert any(reason in first.operator.log.read_text() for reason in LOST)


def test_leader_cut_off_ends_before_another_acts(
    replicas: tuple[Replica, Replica],
    namespace: Namespace,
    audit: Path,
    make_job: MakeJob,
    late: Callable[[], float],
) -> None:
    first, second = replicas
    run_job(namespace, "before", make_job)
    first.proxy.cut()
    with at_work_within(CRASH_SECONDS, late):
        with at_work_within(ACTING_SECONDS, late):
            assert first.process.wait(WAIT_SECONDS) == 1
            ours = first.operator.environment["TRAINYARD_OPERATOR_IDENTITY"]
            assert holder_of(namespace.api) == ours
        run_job(namespace, "after", make_job)
    assert_one_after_the_other(audit, first, second)
    assert "was not renewed for 8 s" in first.operator.log.read_text()


def test_restarted_container_of_a_pod_goes_on_at_once(
    replicas: tuple[Replica, Replica],
    namespace: Namespace,
    make_job: MakeJob,
    late: Callable[[], float],
) -> None:
    first, _ = replicas
    first.operator.kill()
    first.operator.start()
    with at_work_within(STOP_SECONDS, late):
        run_job(namespace, "after", make_job)
    assert first.operator.metric("trainyard_leader") == 1
