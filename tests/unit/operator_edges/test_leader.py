"""Which replica leads: the decisions by tables and by chance, the requests against a played API."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.operator_edges.fake_api import FakeApi, refusal, serve

from trainyard_operator.errors import LeaseLost, NotLeading
from trainyard_operator.kube import PODS
from trainyard_operator.leader import (
    ACT_SECONDS,
    LEASE_SECONDS,
    LOOK_SECONDS,
    RENEW_SECONDS,
    Leader,
    Sighting,
    build_lease,
    may_take,
    seconds_to_act,
    sight,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def seen(holder: str, since: float = 100.0) -> Sighting:
    return Sighting(holder=holder, seconds=12.0, version="7", since=since)


@pytest.mark.parametrize(
    ("name", "sighting", "now", "expected"),
    [
        ("there never was a Lease", None, 100.0, True),
        ("it was released", seen(""), 100.0, True),
        ("an earlier process of this pod held it", seen("a"), 100.0, True),
        ("another one's is new", seen("b"), 100.0, False),
        ("another one's is not old enough", seen("b"), 111.9, False),
        ("another one's is old", seen("b"), 112.0, True),
    ],
)
def test_lease_is_taken_only_when_free_or_old(
    name: str, sighting: Sighting | None, now: float, expected: bool
) -> None:
    assert may_take(sighting, "a", now) is expected, name


@pytest.mark.parametrize(
    ("renewed", "now", "left"),
    [(None, 100.0, 0.0), (100.0, 100.0, 8.0), (100.0, 107.5, 0.5), (100.0, 108.0, 0.0)],
)
def test_holder_stops_in_time(renewed: float | None, now: float, left: float) -> None:
    assert seconds_to_act(renewed, now) == left


def test_age_counts_from_when_a_version_was_first_seen() -> None:
    lease = build_lease("ns", "lease", "b", None, NOON)
    lease["metadata"]["resourceVersion"] = "7"
    first = sight(None, lease, 100.0)
    assert sight(first, lease, 105.0) == first == seen("b")
    lease["metadata"]["resourceVersion"] = "8"
    assert sight(first, lease, 105.0).since == 105.0


def test_lease_object_when_taken_kept_and_released() -> None:
    old = build_lease("ns", "lease", "a", None, NOON)
    assert old == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "lease", "namespace": "ns"},
        "spec": {
            "holderIdentity": "a",
            "leaseDurationSeconds": 12,
            "acquireTime": "2026-01-01T12:00:00.000000Z",
            "renewTime": "2026-01-01T12:00:00.000000Z",
            "leaseTransitions": 1,
        },
    }
    old["metadata"]["resourceVersion"] = "7"
    later, time = NOON.replace(hour=13), "2026-01-01T13:00:00.000000Z"
    kept = build_lease("ns", "lease", "a", old, later)
    assert kept == {**old, "spec": old["spec"] | {"renewTime": time}}
    taken = build_lease("ns", "lease", "b", old, later)
    mine = {"holderIdentity": "b", "acquireTime": time, "renewTime": time, "leaseTransitions": 2}
    assert taken["spec"] == old["spec"] | mine
    free = build_lease("ns", "lease", "", old, later)["spec"]
    assert free == {k: v for k, v in kept["spec"].items() if k != "holderIdentity"}


@dataclass
class Store:
    """An API server that keeps one Lease; None: there is none."""

    lease: dict[str, Any] | None = None
    version: int = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        if method == "GET":
            return (200, self.lease) if self.lease else (404, refusal("NotFound", "no lease"))
        stored = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if body["metadata"].get("resourceVersion") != stored:
            return 409, refusal("Conflict" if method == "PUT" else "AlreadyExists", "modified")
        self.version += 1
        metadata = body["metadata"] | {"resourceVersion": str(self.version)}
        self.lease = {**body, "metadata": metadata}
        return 200, self.lease

    @property
    def holder(self) -> str | None:
        return self.lease["spec"].get("holderIdentity") if self.lease else None


class Clock:
    """Stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def with_leaders(check: Any, *identities: str) -> None:
    """Run `check(store, api, *leaders)`; all leaders have one clock."""

    async def main() -> None:
        store, clock = Store(), Clock()
        api = FakeApi(store.answer)
        async with serve(api) as kube:
            leaders = [Leader(kube, "ns", "lease", name, clock) for name in identities]
            await check(store, api, *leaders)

    asyncio.run(main())


def test_first_replica_leads_and_the_second_waits_until_the_lease_is_old() -> None:
    async def check(store: Store, _: FakeApi, a: Leader, b: Leader) -> None:
        assert await a.look() and not await b.look()
        b.clock.now += LEASE_SECONDS - 0.1
        assert not await b.look()
        b.clock.now += 0.1
        assert await b.look()
        assert (store.holder, a.seconds_to_act(), b.seconds_to_act()) == ("b", 0.0, ACT_SECONDS)

    with_leaders(check, "a", "b")


def test_released_lease_is_taken_at_once() -> None:
    async def check(store: Store, _: FakeApi, a: Leader, b: Leader) -> None:
        await a.look()
        assert not await b.look()
        await a.release()
        assert (store.holder, a.seconds_to_act()) == (None, 0.0)
        assert await b.look()
        await a.release()
        assert store.holder == "b", "what a replica does not hold, it does not release"

    with_leaders(check, "a", "b")


def test_holder_that_finds_another_one_ends_at_once() -> None:
    async def check(store: Store, _: FakeApi, a: Leader, b: Leader) -> None:
        await a.look()
        await b.look()
        b.clock.now += LEASE_SECONDS
        await b.look()
        with pytest.raises(LeaseLost, match="The Lease lease is held by b"):
            await a.renew()
        assert a.seconds_to_act() == 0.0

    with_leaders(check, "a", "b")


def test_renewal_whose_answer_was_lost_is_taken_up() -> None:
    async def check(store: Store, _: FakeApi, a: Leader) -> None:
        await a.look()
        store.lease["metadata"]["resourceVersion"] = "99"  # Stored, but a never heard of it.
        a.clock.now += 1
        assert await a.renew()
        assert (store.holder, a.seconds_to_act()) == ("a", ACT_SECONDS)

    with_leaders(check, "a")


def test_lease_that_somebody_deleted_is_not_taken_while_its_holder_acts() -> None:
    async def check(store: Store, _: FakeApi, a: Leader, b: Leader) -> None:
        await a.look()
        await b.look()
        store.lease = None
        assert not await b.look()
        b.clock.now += LEASE_SECONDS
        assert await b.look()

    with_leaders(check, "a", "b")


def test_api_server_that_is_away_ends_the_leadership_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check(_: Store, api: FakeApi, a: Leader) -> None:
        await a.look()
        api.answer = lambda *_: (503, refusal("ServiceUnavailable", "away"))

        async def sleep(seconds: float) -> None:
            a.clock.now += seconds

        began = a.clock.now
        monkeypatch.setattr("trainyard_operator.leader.asyncio.sleep", sleep)
        with pytest.raises(LeaseLost, match="was not renewed for 8 s"):
            await a.keep()
        assert a.clock.now == began + ACT_SECONDS

    with_leaders(check, "a")


def test_nothing_is_sent_when_the_time_to_act_is_over() -> None:
    async def main() -> None:
        api = FakeApi(lambda *_: (201, {}))
        async with serve(api) as kube:
            pod = {"metadata": {"name": "a", "namespace": "ns"}}
            kube.seconds_to_act = lambda: 0.0
            with pytest.raises(NotLeading):
                await kube.create(PODS, pod)
            assert api.requests == []
            await kube.get(PODS, "ns", "a")
            kube.seconds_to_act = lambda: 0.5
            await kube.create(PODS, pod)

    asyncio.run(main())


@dataclass
class Replica:
    """What `Leader` knows, without requests."""

    name: str
    renewed: float | None = None
    last_seen: Sighting | None = None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(0, 15)), max_size=60))
def test_two_never_act_at_once(events: list[tuple[str, bool, float]]) -> None:
    """Looks and renewals at any time; an answer that is lost is stored all the same."""
    store, now = Store(), 0.0
    replicas = {name: Replica(name) for name in "ab"}
    for name, is_heard, pause in events:
        now += pause
        replica = replicas[name]
        if store.lease:
            replica.last_seen = sight(replica.last_seen, store.lease, now)
        is_holder = store.holder == name
        if is_holder or may_take(replica.last_seen, name, now):
            lease = build_lease("ns", "lease", name, store.lease, NOON)
            assert store.answer("PUT", "", lease)[0] == 200
            replica.renewed = now if is_heard else replica.renewed
        at_work = [r.name for r in replicas.values() if seconds_to_act(r.renewed, now) > 0]
        assert len(at_work) <= 1


def test_failover_keeps_within_its_bounds() -> None:
    # Seen up to a look after it was renewed, old up to a look before the next one.
    assert LEASE_SECONDS + 2 * LOOK_SECONDS + RENEW_SECONDS < 20
    assert ACT_SECONDS + 2 * RENEW_SECONDS <= LEASE_SECONDS
