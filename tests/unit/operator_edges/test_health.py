"""What the probes say when a watch, the queue or a loop is stuck."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from unit.operator_edges.fake_api import FakeApi, listing, make_raw_job, serve

from trainyard_operator import health
from trainyard_operator.__main__ import Operator
from trainyard_operator.health import Check, Health, Pulse
from trainyard_operator.kube import Kube
from trainyard_operator.settings import Settings

KEY = ("research", "nodules")


@pytest.mark.parametrize(
    ("seconds", "problem", "unready"),
    [(0, "", ""), (149, "", ""), (151, "", "stuck for 151 s"), (301, *["stuck for 301 s"] * 2)],
)
def test_readiness_fails_at_half_of_what_ends_the_operator(
    seconds: float, problem: str, unready: str
) -> None:
    checks = (Check("stuck for {seconds}", lambda: seconds, 300.0),)
    found = Health(missing=list, checks=checks)
    assert (found.problem(), found.unready()) == (problem, unready)


def test_what_is_missing_comes_first() -> None:
    checks = (Check("stuck", lambda: 1.0, 0.0),)
    assert Health(missing=lambda: ["a", "b"], checks=checks).unready() == "a, b"


def test_loop_that_has_not_begun_is_not_stuck() -> None:
    now = [10.0]
    pulse = Pulse(clock=lambda: now[0])
    assert pulse.seconds() == 0.0
    pulse.beat()
    now[0] = 12.5
    assert pulse.seconds() == 2.5


def ask(make_stuck: Callable[[Operator, float], Any]) -> tuple[str, str]:
    """Liveness and readiness of an operator, all of whose waiting began an hour ago."""

    async def main() -> tuple[str, str]:
        async with serve(FakeApi(lambda *_: (200, listing([], "1")))) as kube:
            operator = make_operator(kube)
            found = make_stuck(operator, time.monotonic() - 3600)
            if asyncio.iscoroutine(found):
                await found
            return operator.health.problem(), operator.health.unready()

    return asyncio.run(main())


async def until(question: Callable[[], Any]) -> None:
    """Let the loop turn."""
    while not question():  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0)


def make_operator(kube: Kube) -> Operator:
    operator = Operator(kube, Settings())
    for event in (operator.listed, operator.watching, operator.leading, operator.reflector.synced):
        event.set()
    return operator


def test_all_is_well() -> None:
    assert ask(lambda *_: None) == ("", "")


def test_silent_watch_of_pods_fails_both_probes() -> None:
    """A watch that hangs: connected, and nothing comes, not even its time-out."""

    async def hang(operator: Operator, began: float) -> None:
        operator.reflector.clock = lambda: began
        watch = asyncio.create_task(operator.reflector.run())
        await until(lambda: operator.reflector.versions)
        operator.reflector.clock = time.monotonic
        watch.cancel()

    stuck = "the watch of pods has been silent for 3600 s"
    assert ask(hang) == (stuck, stuck)


def test_watch_of_jobs_that_does_not_tell_of_our_own_write_fails_both_probes() -> None:
    def write(operator: Operator, began: float) -> None:
        operator.jobs.lag.clock = lambda: began
        operator.job_changed("ADDED", make_raw_job("5"))
        operator.jobs.put(make_raw_job("6"))
        operator.jobs.lag.clock = time.monotonic

    stuck = "the watch of jobs has been behind for 3600 s"
    assert ask(write) == (stuck, stuck)


def test_watch_of_jobs_need_not_be_ahead_of_an_api_server_that_is_away() -> None:
    def write(operator: Operator, began: float) -> None:
        operator.jobs.lag.clock = lambda: began
        operator.jobs.put(make_raw_job("6"))
        operator.jobs.lag.clock = time.monotonic
        operator.kube.trouble_at = time.monotonic()

    assert ask(write) == ("", "")


def test_look_that_never_ends_fails_both_probes() -> None:
    async def hang(operator: Operator, _: float) -> None:
        queue, began = operator.queue, asyncio.get_running_loop().time() - 3600
        queue.clock = lambda: began
        work = asyncio.create_task(queue.run(lambda _: asyncio.Event().wait(), workers=1))
        queue.add(KEY)
        await until(lambda: queue.busy)
        queue.clock = asyncio.get_running_loop().time
        assert operator.health.problem() == "a job has been waiting for 3600 s"
        assert operator.health.unready() == "a job has been waiting for 3600 s"
        work.cancel()

    ask(hang)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("collector", "progress has not been asked for since 3600 s"),
        ("launchers", "launchers have not been looked after since 3600 s"),
    ],
)
def test_loop_that_hangs_fails_both_probes(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(operator: Operator, began: float) -> None:
        loop = getattr(operator, name)
        loop.beat.__self__.clock = lambda: began
        turning = asyncio.create_task(loop.run())
        await until(lambda: loop.beat.__self__.at is not None)
        loop.beat.__self__.clock = time.monotonic
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)

    assert ask(hang) == (sentence, sentence)


def test_list_that_never_ends_fails_both_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(operator: Operator, began: float) -> None:
        monkeypatch.setattr("trainyard_operator.__main__.relist", lambda *_: asyncio.Event().wait())
        operator.lists.clock = lambda: began
        listing = asyncio.create_task(operator.keep_listed())
        await asyncio.sleep(0)
        operator.lists.clock = time.monotonic
        listing.cancel()

    stuck = "jobs have not been listed for 3600 s"
    assert ask(hang) == (stuck, stuck)


def test_replica_that_goes_on_without_its_lease_fails_both_probes() -> None:
    def lose(operator: Operator, _: float) -> None:
        operator.kube.seconds_to_act = lambda: 0.0

    assert ask(lose) == ("the Lease is lost", "the Lease is lost")


def test_replica_that_waits_to_lead_is_well_and_adds_nothing_to_its_queue() -> None:
    def wait(operator: Operator, _: float) -> None:
        operator.kube.seconds_to_act = lambda: 0.0
        operator.leading.clear()
        operator.reflector.synced.clear()
        operator.job_changed("ADDED", make_raw_job("5"))
        assert operator.jobs.get(KEY) is not None
        assert operator.queue.waiting == {}

    assert ask(wait) == ("", "")


def test_probes_answer_with_their_reason() -> None:
    found = Health(missing=lambda: ["a"], checks=(Check("b", lambda: 1.0, 0.0),))
    answers = [health._answer(text) for text in (found.problem(), "")]
    assert [(answer.status, answer.text) for answer in answers] == [(503, "b"), (200, "ok")]
