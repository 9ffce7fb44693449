"""The chart's alerts and dashboard, judged by Prometheus itself."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.prometheus import prometheus
from integration.api_server import MERGE_PATCH, Namespace
from integration.conftest import Operator
from integration.helm_chart import CHART
from integration.monitoring import ALERTS, Prometheus, watching
from patience import WAIT_SECONDS

DASHBOARD = CHART / "files" / "dashboard.json"
OF_JOB = 'job="nodules", namespace="research"'
# Each alert: series while its condition holds, the minute by which it fires, series while all is
# well. 0+1x60 is 0, 1, ... 60: a value a minute.
TABLE: dict[str, tuple[dict[str, str], int, dict[str, str]]] = {
    "TrainyardNoLeader": (
        {'trainyard_leader{namespace="a", pod="1"}': "0x60"},
        3,
        {
            'trainyard_leader{namespace="a", pod="1"}': "0x60",
            'trainyard_leader{namespace="a", pod="2"}': "1x60",
        },
    ),
    "TrainyardQueueGrows": (
        {"trainyard_queue_depth": "15+2x60"},
        20,
        {"trainyard_queue_depth": "200-2x60"},
    ),
    "TrainyardLooksFail": (
        {
            'trainyard_reconcile_errors_total{namespace="a"}': "0+2x60",
            'trainyard_reconcile_seconds_count{namespace="a"}': "0+10x60",
        },
        15,
        {
            'trainyard_reconcile_errors_total{namespace="a"}': "0+1x60",
            'trainyard_reconcile_seconds_count{namespace="a"}': "0+100x60",
        },
    ),
    "TrainyardJobStalled": (
        {f"trainyard_job_step{{{OF_JOB}}}": "7x60"},
        31,
        {f"trainyard_job_step{{{OF_JOB}}}": "0+1x60"},
    ),
    "TrainyardNoCheckpoint": (
        {f"trainyard_job_checkpoint_timestamp_seconds{{{OF_JOB}}}": "0x200"},
        130,
        {f"trainyard_job_checkpoint_timestamp_seconds{{{OF_JOB}}}": "0+60x200"},
    ),
    "TrainyardStorageDegraded": (
        {f"trainyard_job_storage_degraded{{{OF_JOB}}}": "1x60"},
        11,
        {f"trainyard_job_storage_degraded{{{OF_JOB}}}": "0x60"},
    ),
}


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(part) for part in (prometheus("promtool"), *arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def firing(folder: Path, name: str, series: dict[str, str], minute: int) -> bool:
    """Whether the alert fires at that minute. Raises AssertionError where promtool fails."""
    inputs = [{"series": key, "values": value} for key, value in series.items()]
    case = {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
    text = {
        "rule_files": [str(ALERTS)],
        "tests": [{"interval": "1m", "input_series": inputs, "alert_rule_test": [case]}],
    }
    path = folder / "rules_test.yaml"
    path.write_text(yaml.safe_dump(text))
    done = promtool("test", "rules", path)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "exp:[" in said, said
    return done.returncode != 0


def test_every_alert_has_its_row() -> None:
    assert {rule["alert"] for rule in rules()} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_alert_fires_when_its_condition_holds_long_enough(tmp_path: Path, name: str) -> None:
    broken, minute, well = TABLE[name]
    assert firing(tmp_path, name, broken, minute)
    assert not firing(tmp_path, name, broken, 1)
    assert not firing(tmp_path, name, well, minute)


def test_alert_of_no_leader_fires_when_nothing_is_scraped(tmp_path: Path) -> None:
    assert firing(tmp_path, "TrainyardNoLeader", {}, 3)


@pytest.fixture(scope="module")
def server(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with watching(folder, {"operator-1": f"127.0.0.1:{operator.port}"}, ALERTS) as found:
        yield found


def ask(server: Prometheus, query: str) -> list[Any]:
    """With every namespace and job chosen."""
    return server.ask(query.replace("$namespace", ".*").replace("$job", ".*"))


def dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_every_query_of_the_dashboard_returns_data(
    namespace: Namespace, server: Prometheus, make_job: Callable[..., dict[str, Any]]
) -> None:
    namespace.create(make_job("fails", nodes=1, runPolicy={"maxRestarts": 0}))
    namespace.create(make_job("runs", nodes=1))
    namespace.wait_for_pods("fails-master-0", "runs-master-0")
    for name in ("fails", "runs"):
        namespace.start_pod(f"{name}-master-0")
        namespace.wait_for_phase(name, "Running")
    tell_progress(namespace, "runs")
    namespace.end_pod("fails-master-0", 1)
    namespace.wait_for_phase("fails", "Failed")
    deadline = time.monotonic() + WAIT_SECONDS
    while empty := [query for query in dashboard_queries() if not ask(server, query)]:
        assert time.monotonic() < deadline, empty
        time.sleep(0.5)
    jobs = ask(server, 'trainyard_job_step{job="runs"}')
    assert [sample["metric"]["namespace"] for sample in jobs] == [namespace.name]


def tell_progress(namespace: Namespace, name: str) -> None:
    """What a launcher of a recipe would have reported."""
    saved = {"step": 8, "time": namespace.status(name)["attemptTime"]}
    goodput = {"ratio": "0.9", "productiveSeconds": 9, "lostSteps": 1, "restartSeconds": 1}
    status = {"progress": {"step": 9}, "checkpoints": {"latest": saved}, "goodput": goodput}
    path = f"{namespace.jobs}/{name}/status"
    namespace.api.must("PATCH", path, {"status": status}, headers=MERGE_PATCH)
