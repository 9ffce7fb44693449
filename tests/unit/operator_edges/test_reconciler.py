"""One look at one job, against an API server that the test plays."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from core_objects import DEFAULTS, T0
from hypothesis import given
from hypothesis import strategies as st
from unit.operator_edges.fake_api import FakeApi, make_raw_job, refusal, serve

from trainyard_operator import reconciler as module
from trainyard_operator.collector import Collector, Target
from trainyard_operator.contract import Report
from trainyard_operator.eventposter import EventPoster
from trainyard_operator.kube import Kube
from trainyard_operator.launchers import Launchers
from trainyard_operator.looker import merge_patch
from trainyard_operator.objectcache import ObjectCache
from trainyard_operator.reconciler import Reconciler
from trainyard_operator.reflector import Reflector
from trainyard_operator.settings import Settings
from trainyard_operator.workqueue import WorkQueue

KEY = ("research", "nodules")
STATUS = "/apis/trainyard.dev/v1alpha1/namespaces/research/trainingjobs/nodules/status"


def make_reconciler(kube: Kube) -> Reconciler:
    queue: WorkQueue[Any] = WorkQueue(clock=lambda: 0.0)
    jobs = ObjectCache()
    reflector = Reflector(kube, (None,), on_change=queue.add, on_advance=queue.add)
    collector = Collector(jobs, reflector, Settings(), on_report=queue.add)
    launchers = Launchers(reflector, on_change=queue.add)
    poster = EventPoster(kube)
    return Reconciler(
        kube, jobs, queue, poster, reflector, collector, launchers, DEFAULTS, now=lambda: T0
    )


def look(api: FakeApi, job: dict[str, Any] | None, check: Callable[[Reconciler], None]) -> bool:
    """One pass over a job that is in the store; returns whether it went well."""

    async def main() -> bool:
        async with serve(api) as kube:
            reconciler = make_reconciler(kube)
            if job:
                reconciler.cache.put(job)
            went_well = await reconciler.work(KEY)
            check(reconciler)
            return went_well

    return asyncio.run(main())


class Server(FakeApi):
    """Stores the job's status; everything else is created."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(self.reply)
        self.job = job

    def reply(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        if method != "PATCH":
            return 201, {}
        version = str(int(self.job["metadata"]["resourceVersion"]) + 1)
        metadata = self.job["metadata"] | {"resourceVersion": version}
        status = apply_patch(self.job["status"], body["status"])
        self.job = {**self.job, "metadata": metadata, "status": status}
        return 200, self.job


def test_status_is_written_before_anything_is_created() -> None:
    api = Server(make_raw_job())

    def check(reconciler: Reconciler) -> None:
        assert reconciler.cache.get(KEY)["metadata"]["resourceVersion"] == "2"
        assert reconciler.queue.timers == {KEY: 900.0}
        assert [event["reason"] for event in reconciler.poster.waiting] == ["Starting"]

    assert look(api, api.job, check)
    method, path, body = api.requests[0]
    assert (method, path) == ("PATCH", STATUS)
    assert body["metadata"] == {"resourceVersion": "1", "uid": "uid-1"}
    assert body["status"]["attempt"] == 1
    assert {path.split("/")[5].split("?")[0] for path in api.paths("POST")} == {
        "services",
        "pods",
    }


def test_second_look_writes_nothing() -> None:
    api = Server(make_raw_job())

    async def main() -> None:
        async with serve(api) as kube:
            reconciler = make_reconciler(kube)
            reconciler.cache.put(api.job)
            await reconciler.work(KEY)
            await reconciler.work(KEY)

    asyncio.run(main())
    assert len(api.paths("PATCH")) == 1


def test_conflict_does_nothing_and_looks_again_at_the_newest_job() -> None:
    newest = make_raw_job("9")
    answers = {"PATCH": (409, refusal("Conflict", "modified")), "GET": (200, newest)}
    api = FakeApi(lambda method, *_: answers[method])

    def check(reconciler: Reconciler) -> None:
        assert reconciler.cache.get(KEY) == newest
        assert list(reconciler.queue.waiting) == [KEY]

    assert look(api, make_raw_job(), check)
    assert api.paths("POST") == []


def test_job_that_is_gone_gets_no_pods_and_is_forgotten() -> None:
    api = FakeApi()
    assert look(api, make_raw_job(), lambda r: None if r.cache.get(KEY) is None else pytest.fail())
    assert [method for method, *_ in api.requests] == ["PATCH"]


def test_unknown_key_needs_no_request() -> None:
    api = FakeApi()
    assert look(api, None, lambda _: None)
    assert api.requests == []


def test_refused_pod_is_told_at_once_and_only_then_left_to_the_plan() -> None:
    api = Server(make_raw_job())
    stored = api.reply
    sentence = "exceeded quota: few"
    api.answer = lambda method, path, body: (
        (403, refusal("Forbidden", sentence)) if "/pods" in path else stored(method, path, body)
    )

    async def main() -> None:
        async with serve(api) as kube:
            reconciler = make_reconciler(kube)
            reconciler.cache.put(api.job)
            assert await reconciler.work(KEY)
            assert reconciler.refusals == {KEY: ("uid-1", sentence)}
            assert reconciler.queue.take() == KEY
            assert await reconciler.work(KEY)
            reconciler.queue.done(KEY)
            assert reconciler.queue.take() is None

    asyncio.run(main())
    conditions = {c["type"]: c for c in api.job["status"]["conditions"]}
    assert conditions["Running"]["message"] == (
        f"The API server refused a pod of this job: {sentence}."
    )


def test_unreadable_spec_becomes_a_condition() -> None:
    job = make_raw_job()
    job["spec"]["runPolicy"] = {"maxRestarts": -1}
    api = Server(job)
    assert look(api, job, lambda _: None)
    [condition] = api.job["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Accepted", "False")
    assert condition["message"] == (
        "spec.runPolicy.maxRestarts: Input should be greater than or equal to 0."
    )


def test_planner_that_fails_says_so_in_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("lots")

    monkeypatch.setattr(module, "plan", fail)
    api = Server(make_raw_job())
    assert not look(api, api.job, lambda _: None)
    [condition] = api.job["status"]["conditions"]
    assert condition["message"] == "spec: the operator failed on it: ValueError('lots')."


def test_report_wakes_the_job_only_with_news() -> None:
    def check(reconciler: Reconciler) -> None:
        collector = reconciler.collector
        target = Target(KEY, "uid-1", "10.0.0.1")
        report = Report(attempt=1, time="2026-01-01T12:00:00Z", progress={"step": 1})
        collector.take(target, Report(attempt=0, time=report.time, progress={"step": 9}))
        collector.take(Target(KEY, "uid-0", "10.0.0.1"), report)
        assert (collector.reports, list(reconciler.queue.waiting)) == ({}, [])
        collector.take(target, report)
        assert (collector.reports, list(reconciler.queue.waiting)) == ({"uid-1": report}, [KEY])

    job = make_raw_job(attempt=1, phase="Succeeded")
    look(Server(job), job, check)


@pytest.mark.parametrize(("running", "seconds"), [(0, 2), (1, 2), (40, 2), (1000, 50)])
def test_a_thousand_jobs_cost_twenty_writes_a_second(running: int, seconds: float) -> None:
    collector = Collector(ObjectCache(), Reflector(None, (), print, print), Settings(), print)  # type: ignore[arg-type]
    assert collector.period(running) == seconds


JSON = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def apply_patch(target: Any, patch: Any) -> Any:
    """RFC 7386, as the API server has it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_patch(result.get(key), value)
    return result


@given(OBJECT, OBJECT)
def test_patch_leads_from_one_object_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    patch = merge_patch(before, after)
    assert apply_patch(before, patch) == after
    assert bool(patch) == (before != after)
