"""Listening to launchers and ordering them, over real HTTP."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from core_objects import DEFAULTS, T0, make_pod
from patience import WAIT_SECONDS
from unit.operator_edges.fake_api import FakeApi, make_raw_job, serve
from unit.operator_edges.fake_launcher import TOKEN, FakeLauncher, serve_launchers
from unit.operator_edges.test_reconciler import KEY, Server

from trainyard_operator import launchers as module
from trainyard_operator.collector import Collector
from trainyard_operator.contract import STANDBY_WAIT_SECONDS, Order
from trainyard_operator.decision import OrderAttempt
from trainyard_operator.errors import LauncherError
from trainyard_operator.eventposter import EventPoster
from trainyard_operator.kube import Kube
from trainyard_operator.launchers import Launchers
from trainyard_operator.objectcache import ObjectCache
from trainyard_operator.observed import PodRecord
from trainyard_operator.reconciler import Reconciler, parse_job
from trainyard_operator.reflector import Reflector
from trainyard_operator.settings import Settings
from trainyard_operator.workqueue import WorkQueue

SPEC = {"recipe": "classification", "nodes": 2, "storage": {"uri": "s3://bucket/prefix"}}
RAW = make_raw_job(phase="Running", attempt=1, formedAttempt=1) | {"spec": SPEC}
GANG = (*KEY, "uid-1")
FIRST, SECOND = "127.0.0.1", "127.0.0.2"


def pod(index: int, address: str) -> PodRecord:
    return make_pod(parse_job(RAW), index, ip=address, order_token=TOKEN)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Towards a launcher that does not answer."""
    monkeypatch.setattr(module, "ORDER_SECONDS", 0.5)


class World:
    """Two launchers, and what the operator has for them."""

    def __init__(self, kube: Kube, port: int, *launchers: FakeLauncher) -> None:
        self.first, self.second = launchers
        self.queue: WorkQueue[Any] = WorkQueue(clock=time.monotonic)
        self.reflector = Reflector(kube, (None,), self.queue.add, self.queue.add)
        pods = [pod(index, fake.address) for index, fake in enumerate(launchers)]
        self.reflector.pods = {GANG: {one.name: one for one in pods}}
        self.listener = Launchers(self.reflector, on_change=self.queue.add, port=port)
        self.jobs = ObjectCache()
        self.jobs.put(RAW)
        self.reconciler = Reconciler(
            kube,
            self.jobs,
            self.queue,
            EventPoster(kube),
            self.reflector,
            Collector(self.jobs, self.reflector, Settings(), print),
            self.listener,
            DEFAULTS,
            now=lambda: T0,
        )

    @property
    def status(self) -> dict[str, Any]:
        return self.jobs.objects[KEY]["status"]

    async def until(self, question: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not question():  # noqa: ASYNC110  what is asked has no event
                await asyncio.sleep(0.005)

    async def work(self) -> bool:
        """Take the job from the queue, as a worker does."""
        await self.until(lambda: self.queue.waiting)
        key = self.queue.take()
        went_well = await self.reconciler.work(key)
        self.queue.done(key, failed=not went_well)
        return went_well


def play(scenario: Callable[[World], Awaitable[None]], api: FakeApi | None = None) -> None:
    async def main() -> None:
        fakes = FakeLauncher(FIRST), FakeLauncher(SECOND)
        async with serve(api or Server(RAW)) as kube, serve_launchers(*fakes) as port:
            world = World(kube, port, *fakes)
            listening = asyncio.create_task(world.listener.run())
            try:
                await scenario(world)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(main())


def order(name: str, address: str, attempt: int = 2, token: str = TOKEN) -> OrderAttempt:
    asked = Order(token=token, attempt=attempt, master_port=23457)
    return OrderAttempt(name=name, uid=f"uid-{name}", address=address, order=asked)


def test_failed_ranks_of_any_node_wake_the_job_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.first.asked == world.second.asked == 1)
        began = time.monotonic()
        world.second.fail()
        await world.until(lambda: world.queue.waiting)
        assert time.monotonic() - began < STANDBY_WAIT_SECONDS / 2
        seen = [world.listener.seen(one) for one in world.reflector.snapshot(KEY, "uid-1")]
        assert [one.standby and one.standby.summary.exit_code for one in seen] == [None, 137]

    play(scenario)


def test_gang_restarts_in_place_from_failure_to_running() -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.first.asked and world.second.asked)
        world.second.fail()
        assert await world.work()
        assert (world.status["phase"], world.status["attempt"]) == ("Restarting", 2)
        assert await world.work()
        assert (world.status["phase"], world.status["podsAttempt"]) == ("Running", 1)
        expected = [Order(token=TOKEN, attempt=2, master_port=23457)]
        assert world.first.orders == world.second.orders == expected
        await world.until(lambda: not world.listener.standing)

    api = Server(RAW)
    play(scenario, api)
    assert [path for path in api.paths("DELETE")] == []
    assert not any("/pods" in path for path in api.paths("POST"))


@pytest.mark.usefixtures("impatient")
def test_operator_that_died_before_the_orders_is_made_good_by_the_next() -> None:
    async def scenario(world: World) -> None:
        await world.until(lambda: world.first.asked and world.second.asked)
        world.second.fail()
        world.first.is_deaf = True
        assert not await world.work()
        assert (world.first.attempt, world.second.attempt) == (1, 2)
        world.listener.taken.clear()
        world.first.is_deaf = False
        world.queue.add(KEY)
        assert await world.work()
        assert (world.first.attempt, world.second.attempt) == (2, 2)
        assert await world.work()
        assert world.status["phase"] == "Running"
        assert world.status["restarts"] == {"user": 1, "infrastructure": 0}

    play(scenario)


@pytest.mark.usefixtures("impatient")
def test_launcher_that_does_not_answer_holds_nobody_up() -> None:
    async def scenario(world: World) -> None:
        world.first.is_deaf = True
        began = time.monotonic()
        with pytest.raises(LauncherError, match="pod a did not hear an order"):
            await world.listener.order(order("a", FIRST))
        assert time.monotonic() - began < STANDBY_WAIT_SECONDS / 2
        await world.listener.order(order("b", SECOND))
        assert world.listener.taken == {"uid-b": 2}

    play(scenario)


def test_refused_order_is_an_error_and_a_repeated_one_is_not() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(LauncherError, match="pod a refused an order with status 403"):
            await world.listener.order(order("a", FIRST, token="guess"))
        for _ in range(2):
            await world.listener.order(order("a", FIRST))
        with pytest.raises(LauncherError, match="status 409"):
            await world.listener.order(order("a", FIRST, attempt=1))

    play(scenario)


@pytest.mark.parametrize(
    "body", ["no JSON", "[]", '{"attempt": 1}', '{"attempt": 1, "summary": {"x": 1}}', "x" * 99999]
)
def test_nonsense_from_a_pod_is_no_evidence(body: str) -> None:
    async def scenario(world: World) -> None:
        world.first.body = body
        await world.until(lambda: world.first.asked > 2)
        assert world.listener.standing == {}
        assert not world.queue.waiting

    play(scenario)


def test_pod_that_is_gone_is_forgotten_with_what_it_said() -> None:
    async def scenario(world: World) -> None:
        world.second.fail()
        await world.until(lambda: world.listener.standing)
        world.reflector.pods = {}
        await world.until(lambda: not world.listener.standing)
        asked = world.second.asked
        await asyncio.sleep(0.1)
        assert world.second.asked == asked

    play(scenario)


def test_number_of_connections_is_bounded_first_nodes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_POLLS", 1)

    async def scenario(world: World) -> None:
        await world.until(lambda: world.first.asked)
        await asyncio.sleep(0.1)
        assert world.second.asked == 0

    play(scenario)
