"""Rank 0 reports, and the job's status and columns follow."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from integration.api_server import ApiServer, Namespace
from integration.conftest import Operator
from integration.reporter import Trainer, serving

MakeJob = Callable[..., dict[str, Any]]
ADDRESS = "127.44.0.1"
"""A loopback address of this test's own."""


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    with serving(ADDRESS) as trainer:
        yield trainer


@pytest.fixture
def running(namespace: Namespace, operator: Operator, make_job: MakeJob) -> Namespace:
    """A job of one node whose pod runs."""
    namespace.create(make_job(nodes=1))
    namespace.wait_for_pods("nodules-master-0")
    namespace.start_pod("nodules-master-0", address=ADDRESS)
    namespace.wait_for_phase("nodules", "Running")
    return namespace


def test_report_reaches_status_and_columns(
    api: ApiServer, trainer: Trainer, running: Namespace
) -> None:
    latest = {"step": 40, "uri": "s3://b/40", "time": "2026-01-01T00:00:00Z"}
    trainer.report(1, 42, latest=latest)
    running.wait(lambda: (running.status("nodules").get("progress") or {}).get("step") == 42, "42")
    status = running.status("nodules")
    assert status["display"]["progress"] == "42%"
    assert status["checkpoints"]["latest"] == latest
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = api.must("GET", f"{running.jobs}/nodules", headers=accept)
    assert table["rows"][0]["cells"][:6] == ["nodules", "Running", "42%", "42/100", "0.5", "1/1"]


def test_unchanged_report_is_not_written_again(trainer: Trainer, running: Namespace) -> None:
    trainer.report(1, 7)
    running.wait(lambda: (running.status("nodules").get("progress") or {}).get("step") == 7, "7")
    version, asked = running.job("nodules")["metadata"]["resourceVersion"], trainer.asked
    running.wait(lambda: trainer.asked > asked + 1, "asked twice more")
    assert running.job("nodules")["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize(
    "body",
    [
        b"no report",
        b"x" * 1_000_000,
        json.dumps(
            {"attempt": 9, "time": "2026-01-01T00:00:00Z", "progress": {"step": 1}}
        ).encode(),
    ],
    ids=["no JSON", "endless", "of another attempt"],
)
def test_what_is_no_report_is_ignored(trainer: Trainer, running: Namespace, body: bytes) -> None:
    trainer.body = body
    asked = trainer.asked
    running.wait(lambda: trainer.asked > asked + 1, "asked twice")
    assert "progress" not in running.status("nodules")
