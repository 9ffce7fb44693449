"""What the operator and Prometheus read over HTTP."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.launcher.nodes import make_run

from trainyard_operator.contract import Report
from trainyard_trainer.context import RunContext, report_file
from trainyard_trainer.progress_server import ProgressServer, is_loopback, prometheus_text

REPORT = Report(
    attempt=2,
    time="2025-01-01T00:00:00Z",
    progress={
        "epoch": 12,
        "step": 6120,
        "steps": 51000,
        "samplesPerSecond": 41.3,
        "stage": "full",
        "metrics": {"train_loss": "0.214", 'odd"name': "nan"},
    },
    latest={"step": 6000, "bytes": 1200, "uri": "s3://b/x"},
    kept=4,
)


@pytest.fixture
def run(tmp_path: Path) -> RunContext:
    (tmp_path / "scratch").mkdir()
    return make_run(tmp_path)


@pytest.fixture
def server(run: RunContext) -> Iterator[ProgressServer]:
    server = ProgressServer(run, 0)
    yield server
    server.close()


def get(server: ProgressServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*server.address, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def test_progress_is_unavailable_until_a_rank_reports(server: ProgressServer) -> None:
    assert get(server, "/progress") == (503, '{"error": "no rank has reported yet"}')
    assert get(server, "/healthz") == (200, "ok\n")


def test_progress_is_the_newest_report(run: RunContext, server: ProgressServer) -> None:
    report_file(run.scratch).write_text(REPORT.to_json())
    status, body = get(server, "/progress")
    assert status == 200
    assert Report.from_json(body) == REPORT


def test_half_a_report_counts_as_none(run: RunContext, server: ProgressServer) -> None:
    report_file(run.scratch).write_text(REPORT.to_json()[:40])
    assert get(server, "/progress")[0] == 503


def test_unknown_path_names_the_known_ones(server: ProgressServer) -> None:
    status, body = get(server, "/favicon.ico")
    assert status == 404
    assert json.loads(body) == {
        "error": "no '/favicon.ico'; there are /progress, /metrics, /healthz"
    }


def test_port_in_use_is_an_error_of_the_system(run: RunContext, server: ProgressServer) -> None:
    with pytest.raises(OSError, match="in use"):
        ProgressServer(run, server.address[1])


def test_metrics_are_prometheus_text(run: RunContext) -> None:
    text = prometheus_text(run, REPORT)
    own = 'namespace="research",job="nodules"'
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert samples == [
        f"trainyard_attempt{{{own}}} 1",
        f"trainyard_epoch{{{own}}} 12",
        f"trainyard_step{{{own}}} 6120",
        f"trainyard_steps{{{own}}} 51000",
        f"trainyard_samples_per_second{{{own}}} 41.3",
        f'trainyard_metric{{{own},name="train_loss"}} 0.214',
        f'trainyard_metric{{{own},name="odd\\"name"}} nan',
        f'trainyard_checkpoint_step{{{own},kind="latest"}} 6000',
        f'trainyard_checkpoint_bytes{{{own},kind="latest"}} 1200',
        f"trainyard_checkpoints_kept{{{own}}} 4",
    ]
    assert "# TYPE trainyard_step gauge" in text


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("nodules-master-0", False)],
)
def test_only_a_local_run_is_served_locally(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
