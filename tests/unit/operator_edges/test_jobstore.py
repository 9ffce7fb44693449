"""The jobs as last seen."""

import asyncio
from typing import Any

from unit.operator_edges.fake_api import FakeApi, listing, make_raw_job, serve

from trainyard_operator.jobstore import JobStore, relist

KEY = ("research", "nodules")


def version(store: JobStore) -> str:
    job = store.get(KEY)
    assert job is not None
    return job["metadata"]["resourceVersion"]


def test_our_own_write_is_not_undone_by_an_older_event():
    store = JobStore()
    assert store.put(make_raw_job("9"))
    assert store.put(make_raw_job("10"))
    assert not store.put(make_raw_job("9"))
    assert not store.put(make_raw_job("10"))
    assert version(store) == "10"


def test_record_of_who_wrote_what_is_not_kept():
    store = JobStore()
    job = make_raw_job()
    job["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    store.put(job)
    assert "managedFields" not in store.jobs[KEY]["metadata"]
    assert "managedFields" in job["metadata"]


def test_deletion_of_a_namesake_does_not_touch_the_new_job():
    store = JobStore()
    store.put(make_raw_job("9", uid="new"))
    store.remove(make_raw_job("8", uid="old"))
    assert version(store) == "9"


def relisted(store: JobStore, items: list[dict[str, Any]], meanwhile: Any = None) -> list[Any]:
    def answer(*_: Any) -> tuple[int, dict[str, Any]]:
        if meanwhile:
            store.put(meanwhile)
        return 200, listing(items, "50")

    async def main() -> list[Any]:
        async with serve(FakeApi(answer)) as kube:
            return await relist(store, kube)

    return asyncio.run(main())


def test_relist_tells_of_what_the_watch_missed():
    store = JobStore()
    store.put(make_raw_job("9", uid="deleted"))
    assert relisted(store, []) == [KEY]
    assert store.get(KEY) is None
    assert relisted(store, [make_raw_job("12")]) == [KEY]
    assert relisted(store, [make_raw_job("12")]) == []


def test_job_created_during_a_relist_is_not_lost():
    store = JobStore()
    store.put(make_raw_job("9", uid="old"))
    assert relisted(store, [], meanwhile=make_raw_job("51", uid="new")) == []
    assert version(store) == "51"
