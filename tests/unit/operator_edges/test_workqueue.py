"""The queue, under a clock that the test turns by hand."""

import asyncio

from trainyard_operator.workqueue import HEAP_SLACK, WorkQueue, retry_delay


class Clock:
    """Seconds that stand still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_queue() -> tuple[WorkQueue[str], Clock]:
    clock = Clock()
    return WorkQueue(clock=clock), clock


def take_all(queue: WorkQueue[str]) -> list[str]:
    """Every key that is due, worked on at once."""
    taken = []
    while key := queue.take():
        taken.append(key)
        queue.done(key)
    return taken


def test_key_added_twice_is_worked_on_once():
    queue, _ = make_queue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert take_all(queue) == ["a", "b"]


def test_key_added_while_worked_on_comes_again_only_afterwards():
    queue, _ = make_queue()
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    assert queue.take() is None
    queue.done("a")
    assert queue.take() == "a"


def test_failures_in_a_row_double_the_wait_up_to_a_bound():
    queue, clock = make_queue()
    waits = []
    queue.add("a")
    for _ in range(9):
        queue.take()
        queue.done("a", failed=True)
        wait = queue.seconds_until_due()
        waits.append(round(wait, 3))
        clock.now += wait
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    assert retry_delay(10_000) == 30.0


def test_success_ends_the_back_off():
    queue, _ = make_queue()
    queue.add("a")
    for failed in (True, True, False, True):
        queue.take()
        queue.done("a", failed=failed)
        queue.add("a")
    assert queue.failures == {"a": 1}


def test_event_is_not_held_up_by_a_back_off():
    queue, _ = make_queue()
    queue.add("a")
    queue.take()
    queue.done("a", failed=True)
    assert queue.take() is None
    queue.add("a")
    assert queue.take() == "a"


def test_wake_up_comes_at_its_time():
    queue, clock = make_queue()
    queue.add_at("a", 110.0)
    assert queue.take() is None
    assert queue.seconds_until_due() == 10.0
    clock.now = 110.0
    assert take_all(queue) == ["a"]
    assert queue.seconds_until_due() is None


def test_earliest_wake_up_counts():
    queue, clock = make_queue()
    for when in (130.0, 110.0, 120.0):
        queue.add_at("a", when)
    clock.now = 110.0
    assert take_all(queue) == ["a"]
    clock.now = 200.0
    assert take_all(queue) == []


def test_looking_at_a_key_cancels_its_wake_up():
    queue, clock = make_queue()
    queue.add_at("a", 110.0)
    queue.add("a")
    assert take_all(queue) == ["a"]
    clock.now = 200.0
    assert take_all(queue) == []


def test_wake_up_of_a_forgotten_key_never_comes():
    queue, clock = make_queue()
    queue.add_at("a", 110.0)
    queue.forget("a")
    clock.now = 200.0
    assert take_all(queue) == []


def test_replaced_wake_ups_take_no_memory():
    queue, clock = make_queue()
    for _ in range(10_000):
        queue.add_at("a", clock.now + 86_400)
        queue.add("a")
        take_all(queue)
    assert len(queue._heap) <= HEAP_SLACK + 2


def test_oldest_key_counts_waiting_and_work():
    queue, clock = make_queue()
    assert queue.oldest_seconds() == 0.0
    queue.add("a")
    clock.now += 5
    assert queue.oldest_seconds() == 5.0
    queue.take()
    assert queue.oldest_seconds() == 0.0
    clock.now += 7
    assert queue.oldest_seconds() == 7.0


def test_so_many_keys_are_worked_on_at_once_and_none_twice():
    async def scenario() -> tuple[int, list[str]]:
        queue, _ = make_queue()
        busy: set[str] = set()
        most, done = 0, []

        async def work(key: str) -> bool:
            nonlocal most
            assert key not in busy
            busy.add(key)
            most = max(most, len(busy))
            queue.add(key) if key not in done else None
            await asyncio.sleep(0)
            busy.discard(key)
            done.append(key)
            return True

        for number in range(20):
            queue.add(str(number))
        task = asyncio.create_task(queue.run(work, workers=4))
        for _ in range(200):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return most, done

    most, done = asyncio.run(scenario())
    assert most == 4
    assert sorted(done) == sorted([str(number) for number in range(20)] * 2)
