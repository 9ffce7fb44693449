"""What progress and counts cost the API server."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from core_objects import T0
from unit.operator_edges.fake_api import make_raw_job, serve
from unit.operator_edges.test_reconciler import KEY, Server, make_reconciler

from trainyard_operator.collector import Target
from trainyard_operator.contract import Report
from trainyard_operator.desired import spec_hash
from trainyard_operator.kube import proxy_of
from trainyard_operator.looker import MINOR_SECONDS
from trainyard_operator.observed import PodRecord
from trainyard_operator.reconciler import Reconciler, parse_job

REPORT = Report(attempt=1, time="2026-01-01T12:00:00Z", progress={"step": 1})
TARGET = Target(KEY, "uid-1", "10.0.0.1")
POD = PodRecord(
    name="nodules-master-0",
    uid="pod-1",
    attempt=1,
    node_index=0,
    phase="Running",
    created=T0,
    scheduled=T0,
    running=True,
)


WORKER = replace(POD, name="nodules-worker-0", uid="pod-2", node_index=1)
PENDING = replace(WORKER, phase="Pending", running=False)


def run(scenario: Any) -> Server:
    """`scenario(api, reconciler)` after the first look at a job of two nodes."""

    async def main() -> Server:
        job = make_raw_job()
        job["spec"]["nodes"] = 2
        api = Server(job)
        async with serve(api) as kube:
            reconciler = make_reconciler(kube)
            reconciler.cache.put(api.job)
            await reconciler.work(KEY)
            await scenario(api, reconciler)
        return api

    return asyncio.run(main())


def show(reconciler: Reconciler, *pods: PodRecord) -> None:
    """What the watch tells."""
    raw = reconciler.cache.get(KEY)
    assert raw is not None
    hashed = spec_hash(parse_job(raw).spec)
    found = {pod.name: replace(pod, spec_hash=hashed) for pod in pods}
    reconciler.reflector.pods[*KEY, "uid-1"] = found


def test_count_of_pods_is_written_with_the_next_change_or_seconds_later() -> None:
    async def scenario(api: Server, reconciler: Reconciler) -> None:
        show(reconciler, replace(POD, phase="Pending", running=False), PENDING)
        await reconciler.work(KEY)  # The gang is formed.
        written = len(api.paths("PATCH"))
        show(reconciler, POD, PENDING)
        for _ in range(3):
            await reconciler.work(KEY)
        assert len(api.paths("PATCH")) == written
        assert reconciler.queue.timers[KEY] <= MINOR_SECONDS
        reconciler.queue.clock = lambda: MINOR_SECONDS
        await reconciler.work(KEY)
        assert len(api.paths("PATCH")) == written + 1
        assert api.job["status"]["nodes"]["ready"] == 1

    run(scenario)


def test_change_that_matters_takes_the_counts_along_at_once() -> None:
    async def scenario(api: Server, reconciler: Reconciler) -> None:
        show(reconciler, POD, PENDING)
        await reconciler.work(KEY)
        written = len(api.paths("PATCH"))
        show(reconciler, POD, WORKER)
        await reconciler.work(KEY)
        assert len(api.paths("PATCH")) == written + 1
        assert api.job["status"]["phase"] == "Running"
        assert api.job["status"]["nodes"]["ready"] == 2
        assert reconciler.minor == {}

    run(scenario)


def test_job_that_stands_still_costs_no_write_and_no_look() -> None:
    async def scenario(api: Server, reconciler: Reconciler) -> None:
        show(reconciler, POD, WORKER)
        reconciler.collector.take(TARGET, REPORT)
        await reconciler.work(KEY)
        reconciler.queue.waiting.clear()
        written = len(api.paths("PATCH"))
        for minute in range(60):
            time = (T0 + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")
            reconciler.collector.take(TARGET, replace(REPORT, time=time))
        assert list(reconciler.queue.waiting) == []
        assert len(api.paths("PATCH")) == written

    run(scenario)


def test_report_that_says_something_new_costs_one_write() -> None:
    async def scenario(api: Server, reconciler: Reconciler) -> None:
        show(reconciler, POD, WORKER)
        await reconciler.work(KEY)
        written = len(api.paths("PATCH"))
        reconciler.collector.take(TARGET, REPORT)
        assert list(reconciler.queue.waiting) == [KEY]
        await reconciler.work(KEY)
        await reconciler.work(KEY)
        assert len(api.paths("PATCH")) == written + 1

    run(scenario)


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "10.0.0.1"}, None),
    ],
)
def test_proxy_of_the_environment_is_kept(
    environ: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_of("https://10.0.0.1:6443") == proxy
