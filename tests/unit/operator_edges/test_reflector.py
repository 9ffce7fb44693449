"""The mirror of pods, fed by an API server that the test plays."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from unit.operator_edges.fake_api import FakeApi, listing, make_pod, refusal, serve

from trainyard_operator.errors import Expired, Unreachable
from trainyard_operator.reflector import Reflector, pause

KEY = ("research", "nodules")


def run(api: FakeApi, scenario: Callable[[Reflector, list[Any]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve(api) as kube:
            changed: list[Any] = []
            await scenario(Reflector(kube, (None,), changed.append, changed.append), changed)

    asyncio.run(main())


def names(reflector: Reflector, uid: str = "uid-1") -> list[str]:
    return [record.name for record in reflector.snapshot(KEY, uid)]


def event(type_: str, pod: dict[str, Any]) -> dict[str, Any]:
    return {"type": type_, "object": pod}


BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}}
END = event("ERROR", {"code": 410, "message": "too old"})


def test_list_then_watch_gives_the_pods_of_a_job() -> None:
    added = make_pod("nodules-worker-0", "8")
    api = FakeApi(lambda *_: (200, listing([make_pod()], "7")), [[event("ADDED", added)]])

    async def scenario(reflector: Reflector, changed: list[Any]) -> None:
        await reflector.follow(None)
        assert names(reflector) == ["nodules-master-0", "nodules-worker-0"]
        assert names(reflector, "uid-of-a-namesake") == []
        assert changed == [KEY, KEY]
        assert reflector.synced.is_set()
        assert reflector.versions == {None: "8"}

    run(api, scenario)


def test_only_what_failed_leaves_or_is_gone_hurries() -> None:
    running = make_pod(version="8", phase="Running")
    failed = make_pod(version="9", phase="Failed")
    told = [event("ADDED", make_pod()), event("MODIFIED", running), event("MODIFIED", failed)]
    api = FakeApi(lambda *_: (200, listing([], "1")), [[*told, event("DELETED", failed)]])
    calls: list[str] = []

    async def main() -> None:
        async with serve(api) as kube:
            hurry, get_on = lambda _: calls.append("hurry"), lambda _: calls.append("get on")
            await Reflector(kube, (None,), hurry, get_on).follow(None)

    asyncio.run(main())
    assert calls == ["get on", "get on", "hurry", "hurry"]


def test_long_list_comes_in_chunks_and_is_swapped_at_the_end() -> None:
    def answer(_: str, path: str, __: Any) -> tuple[int, dict[str, Any]]:
        if "continue=more" in path:
            return 200, listing([make_pod("nodules-worker-0")], "7")
        return 200, listing([make_pod()], "7", "more")

    api = FakeApi(answer, [[]])

    async def scenario(reflector: Reflector, changed: list[Any]) -> None:
        await reflector.follow(None)
        assert names(reflector) == ["nodules-master-0", "nodules-worker-0"]
        assert changed == [KEY]

    run(api, scenario)
    first, second, watch = api.paths("GET")
    assert first == "/api/v1/pods?limit=500&labelSelector=trainyard.dev/job-uid"
    assert second == f"{first}&continue=more"
    assert "resourceVersion=7" in watch
    assert "allowWatchBookmarks=true" in watch


def test_broken_watch_goes_on_where_it_was_without_a_list() -> None:
    api = FakeApi(lambda *_: (200, listing([], "7")), [[BOOKMARK], [BOOKMARK]])

    async def scenario(reflector: Reflector, _: list[Any]) -> None:
        await reflector.follow(None)
        await reflector.follow(None)

    run(api, scenario)
    lists = [path for path in api.paths("GET") if "watch=true" not in path]
    watches = [path for path in api.paths("GET") if "watch=true" in path]
    assert len(lists) == 1
    assert ["resourceVersion=7" in watches[0], "resourceVersion=99" in watches[1]] == [True, True]


def test_expired_version_is_said_so() -> None:
    api = FakeApi(lambda *_: (200, listing([], "7")), [[END]])

    async def scenario(reflector: Reflector, _: list[Any]) -> None:
        with pytest.raises(Expired):
            await reflector.follow(None)

    run(api, scenario)


def test_first_list_that_expires_is_begun_anew() -> None:
    answers = [(200, listing([], "7", "more")), (410, refusal("Expired", "too old"))]
    api = FakeApi(lambda *_: answers.pop(0) if answers else (200, listing([make_pod()], "9")))

    async def scenario(reflector: Reflector, _: list[Any]) -> None:
        mirror = asyncio.create_task(reflector.run())
        await asyncio.wait(
            {mirror, waiting := asyncio.create_task(reflector.synced.wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
        assert not mirror.done()
        mirror.cancel()
        assert names(reflector) == ["nodules-master-0"]

    run(api, scenario)


def test_pod_that_vanished_during_a_relist_is_forgotten_and_told() -> None:
    lists = [[make_pod()], []]
    api = FakeApi(lambda *_: (200, listing(lists.pop(0), "7")), [[], []])

    async def scenario(reflector: Reflector, changed: list[Any]) -> None:
        await reflector.follow(None)
        reflector.versions.clear()
        await reflector.follow(None)
        assert names(reflector) == []
        assert changed == [KEY, KEY]

    run(api, scenario)


def test_failed_list_leaves_the_pods_as_they_were() -> None:
    answers = [
        (200, listing([make_pod()], "7")),
        (200, listing([], "9", "more")),
        (500, refusal("InternalError", "etcd is away")),
    ]
    api = FakeApi(lambda *_: answers.pop(0), [[]])

    async def scenario(reflector: Reflector, _: list[Any]) -> None:
        await reflector.follow(None)
        reflector.versions.clear()
        with pytest.raises(Unreachable, match="etcd is away"):
            await reflector.follow(None)
        assert names(reflector) == ["nodules-master-0"]

    run(api, scenario)


def test_same_record_again_wakes_nobody() -> None:
    heartbeat = make_pod(version="8")
    api = FakeApi(lambda *_: (200, listing([make_pod()], "7")), [[event("MODIFIED", heartbeat)]])

    async def scenario(reflector: Reflector, changed: list[Any]) -> None:
        await reflector.follow(None)
        assert changed == [KEY]

    run(api, scenario)


@pytest.mark.parametrize(
    "change",
    [
        event("DELETED", make_pod()),
        event("MODIFIED", make_pod(metadata={"ownerReferences": []})),
    ],
    ids=["deleted", "orphaned"],
)
def test_pod_that_is_no_more_ours_is_gone(change: dict[str, Any]) -> None:
    api = FakeApi(lambda *_: (200, listing([make_pod()], "7")), [[change]])

    async def scenario(reflector: Reflector, changed: list[Any]) -> None:
        await reflector.follow(None)
        assert reflector.pods == {}
        assert changed == [KEY, KEY]

    run(api, scenario)


def test_pod_labelled_by_hand_is_not_seen() -> None:
    strangers = [
        make_pod("a", metadata={"ownerReferences": []}),
        make_pod("b", metadata={"labels": {"trainyard.dev/job-uid": "uid-1"}}),
    ]
    api = FakeApi(lambda *_: (200, listing(strangers, "7")), [[event("ADDED", strangers[0])]])

    async def scenario(reflector: Reflector, changed: list[Any]) -> None:
        await reflector.follow(None)
        assert reflector.pods == {}
        assert changed == []

    run(api, scenario)


def test_pause_grows_to_half_a_minute_and_no_further() -> None:
    assert [round(pause(n, 1.0), 1) for n in (0, 1, 2, 5, 8, 1000)] == [0.2, 0.4, 0.8, 6.4, 30, 30]
    assert pause(1000, 0.0) == 15.0
