"""The jobs as last seen."""

import asyncio
from typing import Any

from unit.operator_edges.fake_api import FakeApi, listing, make_raw_job, serve

from trainyard_operator.objectcache import ObjectCache, relist

KEY = ("research", "nodules")


def version(cache: ObjectCache) -> str:
    job = cache.get(KEY)
    assert job is not None
    return job["metadata"]["resourceVersion"]


def test_our_own_write_is_not_undone_by_an_older_event():
    cache = ObjectCache()
    assert cache.put(make_raw_job("9"))
    assert cache.put(make_raw_job("10"))
    assert not cache.put(make_raw_job("9"))
    assert not cache.put(make_raw_job("10"))
    assert version(cache) == "10"


def test_record_of_who_wrote_what_is_not_kept():
    cache = ObjectCache()
    job = make_raw_job()
    job["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    cache.put(job)
    assert "managedFields" not in cache.objects[KEY]["metadata"]
    assert "managedFields" in job["metadata"]


def test_deletion_of_a_namesake_does_not_touch_the_new_job():
    cache = ObjectCache()
    cache.put(make_raw_job("9", uid="new"))
    cache.remove(make_raw_job("8", uid="old"))
    assert version(cache) == "9"


def relisted(cache: ObjectCache, items: list[dict[str, Any]], meanwhile: Any = None) -> list[Any]:
    def answer(*_: Any) -> tuple[int, dict[str, Any]]:
        if meanwhile:
            cache.put(meanwhile)
        return 200, listing(items, "50")

    async def main() -> list[Any]:
        async with serve(FakeApi(answer)) as kube:
            return await relist(cache, kube)

    return asyncio.run(main())


def test_relist_tells_of_what_the_watch_missed():
    cache = ObjectCache()
    cache.put(make_raw_job("9", uid="deleted"))
    assert relisted(cache, []) == [KEY]
    assert cache.get(KEY) is None
    assert relisted(cache, [make_raw_job("12")]) == [KEY]
    assert relisted(cache, [make_raw_job("12")]) == []


def test_job_created_during_a_relist_is_not_lost():
    cache = ObjectCache()
    cache.put(make_raw_job("9", uid="old"))
    assert relisted(cache, [], meanwhile=make_raw_job("51", uid="new")) == []
    assert version(cache) == "51"
