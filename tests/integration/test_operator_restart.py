"""The operator is killed, is away, and comes back."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from integration.api_server import MERGE_PATCH, ApiServer, Namespace
from integration.conftest import Operator
from patience import WAIT_SECONDS

from trainyard_operator.contract import now_text

MakeJob = Callable[..., dict[str, Any]]
GANG = ("nodules-master-0", "nodules-worker-0")


@pytest.fixture
def away(operator: Operator) -> Iterator[Operator]:
    """The operator, killed; it runs again after the test."""
    operator.kill()
    yield operator
    if not operator.is_ready():
        operator.start()


def uids(namespace: Namespace) -> set[str]:
    return {pod["metadata"]["uid"] for pod in namespace.pods().values()}


def test_a_running_job_is_left_as_it_is(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    namespace.wait_for_pods(*GANG)
    for name in GANG:
        namespace.start_pod(name)
    namespace.wait_for_phase("nodules", "Running")
    namespace.wait(lambda: len(namespace.events("nodules")) == 2, "both events")
    pods, job = uids(namespace), namespace.job("nodules")

    operator.kill()
    operator.start()
    namespace.create(make_job("later", nodes=1))
    namespace.wait(lambda: "later-master-0" in namespace.pods(), "the operator at work")

    assert uids(namespace) - pods == {namespace.pods()["later-master-0"]["metadata"]["uid"]}
    assert (
        namespace.job("nodules")["metadata"]["resourceVersion"]
        == (job["metadata"]["resourceVersion"])
    )
    assert [reason for _, reason, _ in namespace.events("nodules")] == ["Starting", "Running"]


def test_what_happened_meanwhile_is_made_good(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job("ends", nodes=1))
    namespace.create(make_job("goes", nodes=1))
    namespace.wait_for_pods("ends-master-0", "goes-master-0")
    namespace.start_pod("ends-master-0")
    namespace.wait_for_phase("ends", "Running")

    operator.kill()
    namespace.end_pod("ends-master-0", 0)
    namespace.delete("goes")
    namespace.delete_pod("goes-master-0")
    namespace.create(make_job("comes", nodes=1))
    operator.start()

    namespace.wait_for_phase("ends", "Succeeded")
    namespace.wait_for_pods("ends-master-0", "comes-master-0")


def test_what_fell_due_or_was_asked_for_meanwhile_is_done(
    api: ApiServer, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    policies: dict[str, dict[str, Any]] = {
        "rests": {},
        "wakes": {"suspend": True},
        "late": {"activeDeadlineSeconds": 3600},
        "old": {"ttlSecondsAfterFinished": 3600},
    }
    for name, policy in policies.items():
        namespace.create(make_job(name, nodes=1, runPolicy=policy))
    namespace.wait_for_pods("rests-master-0", "late-master-0", "old-master-0")
    for name in ("rests", "late", "old"):
        namespace.start_pod(f"{name}-master-0")
        namespace.wait_for_phase(name, "Running")
    namespace.end_pod("old-master-0", 0)
    namespace.wait_for_phase("old", "Succeeded")

    operator.kill()
    namespace.edit("rests", {"runPolicy": {"suspend": True}})
    namespace.edit("wakes", {"runPolicy": {"suspend": False}})
    began = datetime.now(UTC) - timedelta(hours=2)
    for name, field in (("late", "startTime"), ("old", "completionTime")):
        status = {field: began.strftime("%Y-%m-%dT%H:%M:%SZ")}
        api.must(
            "PATCH", f"{namespace.jobs}/{name}/status", {"status": status}, headers=MERGE_PATCH
        )
    operator.start()

    namespace.wait(lambda: not namespace.exists("old"), "deleted")
    assert namespace.wait_for_phase("late", "Failed")["failure"]["cause"] == "DeadlineExceeded"
    namespace.wait_for_phase("rests", "Suspended")
    namespace.wait_for_phase("wakes", "Starting")
    leaving = {n for n, p in namespace.pods().items() if "deletionTimestamp" in p["metadata"]}
    assert {"rests-master-0", "late-master-0"} <= leaving
    assert "wakes-master-0" in namespace.pods()


def test_a_pass_cut_off_after_its_status_is_finished(
    api: ApiServer, namespace: Namespace, away: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    began = now_text()
    status = {"phase": "Starting", "attempt": 1, "attemptTime": began, "startTime": began}
    path = f"{namespace.jobs}/nodules/status"
    api.must("PATCH", path, {"status": status}, headers=MERGE_PATCH)
    away.start()
    namespace.wait_for_pods(*GANG)
    assert namespace.status("nodules")["attempt"] == 1


def test_operator_ends_well_and_within_two_seconds_when_told_to(away: Operator) -> None:
    assert any(seconds_to_end(away) < 2 for _ in range(3))  # Once: else the machine is busy.


def seconds_to_end(operator: Operator) -> float:
    """Of one that is running, when it is told to."""
    operator.start()
    assert operator.daemon is not None
    began = time.monotonic()
    operator.daemon.process.terminate()
    assert operator.daemon.process.wait(WAIT_SECONDS) == 0
    return time.monotonic() - began
