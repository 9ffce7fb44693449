"""What the operator and Prometheus read over HTTP."""

import dataclasses
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.launcher.nodes import TOKEN, Planner, make_run

from trainyard_operator.contract import Order, Report, Standby
from trainyard_trainer.context import RunContext, report_file
from trainyard_trainer.progress_server import ProgressServer, prometheus_text
from trainyard_trainer.standby import OrderDesk

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
def desk() -> OrderDesk:
    return OrderDesk(2, TOKEN, wake=lambda: None)


@pytest.fixture
def server(run: RunContext, desk: OrderDesk) -> Iterator[ProgressServer]:
    server = ProgressServer(run, 0, desk)
    yield server
    server.close()


def get(server: ProgressServer, path: str) -> tuple[int, str]:
    return Planner(server.address[1]).request("GET", path)


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
        "error": "no '/favicon.ico'; there are /healthz, /metrics, /progress, /standby"
    }


def test_port_in_use_is_an_error_of_the_system(
    run: RunContext, server: ProgressServer, desk: OrderDesk
) -> None:
    with pytest.raises(OSError, match="in use"):
        ProgressServer(run, server.address[1], desk)


def test_page_lists_every_metric_of_a_trainer(run: RunContext) -> None:
    progress = (REPORT.progress or {}) | {"epochs": 20, "percent": 12}
    text = prometheus_text(run, dataclasses.replace(REPORT, progress=progress))
    named = dict(re.findall(r"^# HELP (\w+) (.*)$", text, re.M))
    labels = {
        name: re.findall(rf'^{name}{{namespace="research",job="nodules",?(\w*)', text, re.M)[0]
        for name in named
    }
    page = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
    section = page.read_text().partition("## Of the trainers\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w*) ?\| (.*) \|$", section, re.M)
    assert rows == [(name, labels[name], meaning) for name, meaning in named.items()]


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
def test_only_a_local_run_is_served_locally(run: RunContext, address: str, expected: bool) -> None:
    assert dataclasses.replace(run, master_addr=address).is_local is expected


STANDBY = Standby(attempt=2, summary={"exit_code": 137, "message": "rank 1 was killed"})
ORDER = Order(token=TOKEN, attempt=3, master_port=24000)


def test_standby_comes_to_who_waits_for_it(server: ProgressServer, desk: OrderDesk) -> None:
    assert get(server, "/standby") == (204, "")
    threading.Timer(0.05, desk.stand_by, [STANDBY]).start()
    status, body = get(server, "/standby?wait=20")
    assert (status, Standby.from_json(body)) == (200, STANDBY)


@pytest.mark.parametrize("wait", ["-1", "21", "nan", "soon"])
def test_time_to_wait_has_limits(server: ProgressServer, wait: str) -> None:
    status, body = get(server, f"/standby?wait={wait}")
    assert (status, json.loads(body)) == (400, {"error": "wait: expected 0 to 20 seconds"})


@pytest.mark.parametrize("token", ["", "wrong", "ü"])
def test_standby_is_told_only_to_who_has_the_token(
    server: ProgressServer, desk: OrderDesk, token: str
) -> None:
    desk.stand_by(STANDBY)
    status, body = Planner(server.address[1], token).request("GET", "/standby")
    assert (status, json.loads(body)) == (403, {"error": "the token is not this gang's"})


def test_launcher_without_a_token_tells_nobody(run: RunContext) -> None:
    closed = ProgressServer(run, 0, OrderDesk(2, None, wake=lambda: None))
    assert Planner(closed.address[1], "").request("GET", "/standby")[0] == 403
    closed.close()


def test_node_that_is_not_the_first_has_no_progress(run: RunContext, desk: OrderDesk) -> None:
    other = ProgressServer(dataclasses.replace(run, node_index=1), 0, desk)
    assert get(other, "/progress")[0] == get(other, "/metrics")[0] == 404
    assert get(other, "/standby") == (204, "")
    other.close()


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        (ORDER.to_json(), 202, {"message": "attempt 3 begins"}),
        (
            dataclasses.replace(ORDER, token="guessed").to_json(),
            403,
            {"error": "the token is not this gang's"},
        ),
        (
            dataclasses.replace(ORDER, attempt=2).to_json(),
            409,
            {"error": "attempt 2 is not after attempt 2"},
        ),
        ("{", 400, {"error": "expected an object with token, attempt and master_port"}),
        ("[" * 4096, 400, {"error": "expected an object with token, attempt and master_port"}),
        ("{}", 400, {"error": "expected an object with token, attempt and master_port"}),
        (
            json.dumps({"token": TOKEN, "attempt": True, "master_port": 1}),
            400,
            {"error": "attempt: expected a number from 1 on"},
        ),
        (
            json.dumps({"token": TOKEN, "attempt": 3, "master_port": 65536}),
            400,
            {"error": "master_port: expected a number from 1 to 65535"},
        ),
        (
            json.dumps({"token": [TOKEN], "attempt": 3, "master_port": 1}),
            400,
            {"error": "token: expected a text"},
        ),
        ("x" * 4097, 400, {"error": "send a Content-Length of at most 4096"}),
    ],
)
def test_orders_are_answered(
    server: ProgressServer, desk: OrderDesk, body: str, status: int, answer: dict[str, str]
) -> None:
    answered = Planner(server.address[1]).request("POST", "/order", body)
    assert (answered[0], json.loads(answered[1])) == (status, answer)
    assert TOKEN not in answered[1]
    assert desk.take() == (ORDER if status == 202 else None)
