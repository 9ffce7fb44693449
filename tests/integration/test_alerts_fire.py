"""Each alert of the chart fires when its condition is made true, and ends with it.

A real Prometheus scrapes a real operator. The rules are the chart's, with seconds for minutes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster.process import tail
from faults.tcp_proxy import TcpProxy
from integration.api_server import ApiServer, Namespace
from integration.conftest import (
    Operator,
    install_crd,
    install_rights,
    make_operator,
    running_control_plane,
    write_kubeconfig,
)
from integration.monitoring import Prometheus, quick_rules, watching
from integration.reporter import Trainer, serving

from trainyard_operator.contract import Report, now_text

MakeJob = Callable[..., dict[str, Any]]
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/trainyard-operator"
JOBS = ("well", "stalled", "unsaved", "degraded")


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """Of this module alone: no job of another test is there to be told of."""
    with running_control_plane() as api:
        install_rights(api)
        install_crd(api)
        yield api


@dataclass
class Scene:
    """An operator that looks at one job at a time, behind a proxy, and who watches it."""

    operator: Operator
    proxy: TcpProxy
    prometheus: Prometheus

    def until_firing(self, *alerts: tuple[str, str]) -> None:
        """These and no other."""
        self.prometheus.until(lambda: self.prometheus.firing() == set(alerts), f"{alerts}")


@pytest.fixture
def scene(api: ApiServer, tmp_path: Path) -> Iterator[Scene]:
    proxy = TcpProxy(api.plane.port)
    kubeconfig = write_kubeconfig(api, tmp_path / "kubeconfig")
    kubeconfig.write_text(kubeconfig.read_text().replace(api.plane.server[8:], proxy.address))
    operator = make_operator(kubeconfig, tmp_path)
    operator.environment |= {"TRAINYARD_OPERATOR_WORKERS": "1"}
    operator.start()
    operators = {"operator-1": f"127.0.0.1:{operator.port}"}
    with watching(tmp_path, operators, quick_rules(tmp_path)) as prometheus:
        scene = Scene(operator, proxy, prometheus)
        prometheus.until(lambda: bool(prometheus.ask("trainyard_leader == 1")), "a first scrape")
        yield scene
    operator.kill()
    proxy.close()
    print(tail(operator.log, 40))


class LiveTrainer(Trainer):
    """Takes a step and saves it each time that it is asked, as long as all is well."""

    steps, saves, trouble, step = True, True, "", 0
    saved: dict[str, Any] | None = None

    @property
    def body(self) -> bytes:
        self.step += self.steps
        if self.saves:
            self.saved = {"step": self.step, "time": now_text(), "uri": f"s3://b/{self.step}"}
        report = Report(
            attempt=1,
            time=now_text(),
            progress={"step": self.step, "steps": 10_000},
            latest=self.saved,
            storage_warning=self.trouble or None,
            warning=self.trouble or None,
        )
        return report.to_json().encode()


@pytest.fixture
def trainers(
    scene: Scene, namespace: Namespace, make_job: MakeJob
) -> Iterator[dict[str, LiveTrainer]]:
    """Of four jobs that run, by their names."""
    addresses = {name: f"127.46.0.{number}" for number, name in enumerate(JOBS, start=1)}
    for name in JOBS:
        namespace.create(make_job(name, nodes=1))
    namespace.wait_for_pods(*(f"{name}-master-0" for name in JOBS))
    with ExitStack() as stack:
        found = {name: stack.enter_context(serving(addresses[name], LiveTrainer)) for name in JOBS}
        for name in JOBS:
            namespace.start_pod(f"{name}-master-0", address=addresses[name])
            namespace.wait_for_phase(name, "Running")
        yield found
    for name in JOBS:
        namespace.delete(name)


def test_alert_names_the_job_that_is_in_trouble_until_it_is_not(
    scene: Scene, namespace: Namespace, trainers: dict[str, LiveTrainer]
) -> None:
    namespace.wait(lambda: has_saved(namespace.status("unsaved")), "saved")
    trainers["stalled"].steps = False
    trainers["unsaved"].saves = False
    trainers["degraded"].trouble = "s3://b answers 503 SlowDown."
    scene.until_firing(
        ("TrainyardJobStalled", "stalled"),
        ("TrainyardNoCheckpoint", "unsaved"),
        ("TrainyardStorageDegraded", "degraded"),
    )
    for trainer in trainers.values():
        trainer.steps, trainer.saves, trainer.trouble = True, True, ""
    scene.until_firing()


def has_saved(status: dict[str, Any]) -> bool:
    return bool((status.get("checkpoints") or {}).get("latest"))


def test_alert_of_no_leader_fires_while_the_operator_is_dead(scene: Scene) -> None:
    scene.operator.kill()
    scene.until_firing(("TrainyardNoLeader", ""))
    scene.operator.start()
    scene.until_firing()


def test_alert_of_looks_fires_while_the_operator_may_not_write(
    scene: Scene, api: ApiServer, namespace: Namespace, make_job: MakeJob
) -> None:
    role = api.must("GET", ROLE)
    api.must("PUT", ROLE, role | {"rules": without_status(role["rules"])})
    namespace.create(make_job())
    scene.until_firing(("TrainyardLooksFail", ""))
    api.must("PUT", ROLE, api.must("GET", ROLE) | {"rules": role["rules"]})
    namespace.wait_for_pods("nodules-master-0", "nodules-worker-0")


def without_status(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for rule in rules if "trainingjobs/status" not in rule["resources"]]


def test_alert_of_the_queue_fires_while_the_api_server_is_too_slow(
    scene: Scene, namespace: Namespace, make_job: MakeJob
) -> None:
    scene.proxy.delay_seconds = 0.5
    for number in range(60):
        namespace.create(make_job(f"job-{number}", nodes=1))
    began = time.monotonic()
    scene.until_firing(("TrainyardQueueGrows", ""))
    print(f"the queue grew for {time.monotonic() - began:.1f} s")
    scene.proxy.delay_seconds = 0
    scene.until_firing()
