"""Events are posted one by one, behind everything else."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from core_objects import make_job
from unit.operator_edges.fake_api import FakeApi, refusal, serve

from trainyard_operator import eventposter
from trainyard_operator.decision import Event
from trainyard_operator.eventposter import EventPoster, build_event


def run(api: FakeApi, scenario: Callable[[EventPoster], Awaitable[None]]) -> list[str]:
    """The messages that the API server was sent."""

    async def main() -> None:
        async with serve(api) as kube:
            await scenario(EventPoster(kube))

    asyncio.run(main())
    return [body["message"] for _, _, body in api.requests]


def told(message: str) -> dict[str, object]:
    event = Event(type="Normal", reason="Running", message=message)
    return build_event(make_job(), event, datetime(2026, 1, 1, tzinfo=UTC))


def test_events_come_in_order_while_it_runs_and_as_it_ends() -> None:
    posted = asyncio.Event()

    def answer(*_: object) -> tuple[int, dict[str, object]]:
        posted.set()
        return 201, {}

    async def scenario(poster: EventPoster) -> None:
        task = asyncio.ensure_future(poster.run())
        poster.add(told("one"))
        await posted.wait()
        task.cancel()
        poster.add(told("two"))
        await poster.finish()

    assert run(FakeApi(answer), scenario) == ["one", "two"]


def test_event_that_cannot_be_posted_holds_up_no_other() -> None:
    async def scenario(poster: EventPoster) -> None:
        poster.add(told("one"))
        poster.add(told("two"))
        await poster.post_all()
        assert not poster.waiting

    assert run(FakeApi(lambda *_: (403, refusal("Forbidden", "no"))), scenario) == ["one", "two"]


def test_oldest_is_given_up_where_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventposter, "MOST_WAITING", 2)

    async def scenario(poster: EventPoster) -> None:
        for message in ("one", "two", "three"):
            poster.add(told(message))
        await poster.post_all()

    assert run(FakeApi(lambda *_: (201, {})), scenario) == ["two", "three"]


def test_end_does_not_wait_for_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventposter, "LAST_SECONDS", 0.01)

    async def scenario(poster: EventPoster) -> None:
        async def never(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(poster.kube, "create", never)
        poster.add(told("one"))
        poster.add(told("two"))
        await poster.finish()
        assert len(poster.waiting) == 1

    assert run(FakeApi(), scenario) == []


def test_event_object() -> None:
    event = Event(type="Warning", reason="Restarted", message="x" * 2000)
    built = build_event(make_job(), event, datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert built.pop("metadata")["namespace"] == "research"
    assert built == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "TrainingJob",
            "name": "nodules",
            "namespace": "research",
            "uid": "uid-1",
        },
        "type": "Warning",
        "reason": "Restarted",
        "message": "x" * 1024,
        "source": {"component": "trainyard-operator"},
        "reportingComponent": "trainyard-operator",
        "firstTimestamp": "2026-01-01T12:00:00Z",
        "lastTimestamp": "2026-01-01T12:00:00Z",
        "count": 1,
    }
