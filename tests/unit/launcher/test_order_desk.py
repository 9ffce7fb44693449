"""Which orders a launcher takes, and in what state it is for the planner."""

import pytest
from unit.launcher.nodes import TOKEN

from trainyard_operator.contract import Order, Standby, Summary
from trainyard_trainer.standby import OrderDesk, can_restart

STANDBY = Standby(attempt=1, summary={})


class Woken:
    """Counts how often the launcher's loop was woken."""

    times = 0

    def __call__(self) -> None:
        self.times += 1


def order(attempt: int, *, token: str = TOKEN, port: int = 24000) -> Order:
    return Order(token=token, attempt=attempt, master_port=port)


def test_order_is_taken_once_and_ends_the_standby() -> None:
    woken = Woken()
    desk = OrderDesk(1, TOKEN, woken)
    desk.stand_by(STANDBY)
    assert desk.standby(0) == STANDBY
    assert desk.hand_in(order(2)) == (202, "attempt 2 begins")
    assert desk.standby(0) is None
    assert desk.hand_in(order(2)) == (202, "attempt 2 was ordered before")
    assert desk.last_call() == order(2)
    assert desk.hand_in(order(2)) == (202, "attempt 2 was ordered before")
    assert not desk.has_order
    assert (woken.times, desk.attempt) == (1, 2)


def test_attempt_begins_with_one_port_only() -> None:
    desk = OrderDesk(1, TOKEN, Woken())
    desk.hand_in(order(2))
    assert desk.hand_in(order(2, port=24001)) == (409, "attempt 2 is not after attempt 2")


def test_newer_order_replaces_one_that_waits() -> None:
    desk = OrderDesk(1, TOKEN, Woken())
    desk.hand_in(order(2))
    desk.hand_in(order(4))
    desk.stand_by(STANDBY)
    assert desk.standby(0) is None
    assert desk.take() == order(4)


def test_no_order_comes_after_the_last_call() -> None:
    desk = OrderDesk(1, TOKEN, Woken())
    desk.stand_by(STANDBY)
    assert desk.last_call() is None
    assert desk.hand_in(order(2)) == (409, "this launcher is about to end")
    assert desk.standby(0) is None


def test_request_to_stop_forgets_the_order_that_waits() -> None:
    desk = OrderDesk(1, TOKEN, Woken())
    desk.hand_in(order(2))
    desk.close()
    assert desk.last_call() is None


@pytest.mark.parametrize("token", [None, "", "ü"])
def test_launcher_without_the_token_takes_no_order(token: str | None) -> None:
    desk = OrderDesk(1, token, Woken())
    assert desk.hand_in(order(2)) == (403, "the token is not this gang's")
    assert not desk.has_order


@pytest.mark.parametrize(
    ("code", "result", "expected"),
    [(137, False, True), (1, False, True), (76, False, True), (137, True, False)]
    + [(code, False, False) for code in (0, 75, 78)],
)
def test_only_what_another_attempt_could_change_is_worth_one(
    code: int, result: bool, expected: bool
) -> None:
    assert can_restart(Summary(exit_code=code, message="", result=result)) is expected
