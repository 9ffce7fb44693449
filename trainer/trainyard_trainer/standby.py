"""Restarts in place: where the planner's orders come in, and where it hears that ranks have failed.

The threads of the progress server hand orders in; the launcher's loop takes them out. A launcher
never restarts its ranks by itself: budget, back-off and attempt numbers are the planner's.
"""

import hmac
import threading
from collections.abc import Callable
from http import HTTPStatus

from trainyard_operator.contract import ExitCode, Order, Standby, Summary

_FINAL = (ExitCode.DONE, ExitCode.CHECKPOINTED, ExitCode.CONFIGURATION)
_PORTS = range(1, 2**16)


class OrderDesk:
    """At most one order waits here; used by several threads."""

    def __init__(self, attempt: int, token: str | None, wake: Callable[[], None]) -> None:
        """token: what an order must bring along; None: none is taken. wake: called for each."""
        self._token, self._wake = token, wake
        self._changed = threading.Condition()
        self._is_open = token is not None
        self._attempt = attempt
        self._newest: Order | None = None
        self._waiting: Order | None = None
        self._standby: Standby | None = None

    @property
    def attempt(self) -> int:
        """The one that runs, or is about to."""
        return self._attempt

    @property
    def is_open(self) -> bool:
        """Whether orders are taken."""
        return self._is_open

    @property
    def has_order(self) -> bool:
        """Whether an order waits."""
        return self._waiting is not None

    def knows(self, token: str) -> bool:
        """Whether this is the gang's token."""
        own = self._token
        return own is not None and hmac.compare_digest(token.encode(), own.encode())

    def hand_in(self, order: Order) -> tuple[HTTPStatus, str]:
        """The answer to whoever sent it, with the reason."""
        with self._changed:
            if not self.knows(order.token):
                return HTTPStatus.FORBIDDEN, "the token is not this gang's"
            if not self._is_open:
                return HTTPStatus.CONFLICT, "this launcher is about to end"
            if order == self._newest:
                return HTTPStatus.ACCEPTED, f"attempt {order.attempt} was ordered before"
            if order.attempt <= self._attempt:
                reason = f"attempt {order.attempt} is not after attempt {self._attempt}"
                return HTTPStatus.CONFLICT, reason
            self._attempt = order.attempt
            self._newest = self._waiting = order
            self._standby = None
        self._wake()
        return HTTPStatus.ACCEPTED, f"attempt {order.attempt} begins"

    def standby(self, wait_seconds: float) -> Standby | None:
        """What the launcher stands by with, waiting for it; None while ranks run."""
        with self._changed:
            self._changed.wait_for(lambda: self._standby is not None, wait_seconds)
            return self._standby

    def stand_by(self, standby: Standby) -> None:
        """Tell whoever waits, unless the order is here already."""
        with self._changed:
            if self._waiting is None:
                self._standby = standby
                self._changed.notify_all()

    def take(self) -> Order | None:
        """The order that waits."""
        with self._changed:
            order, self._waiting = self._waiting, None
            return order

    def last_call(self) -> Order | None:
        """The order that waits; without one, no other is taken from now on."""
        with self._changed:
            order, self._waiting = self._waiting, None
            if order is None:
                self._close()
            return order

    def close(self) -> None:
        """Take no order from now on, and forget the one that waits."""
        with self._changed:
            self._waiting = None
            self._close()

    def _close(self) -> None:
        self._is_open, self._standby = False, None


def parse_order(body: bytes) -> Order:
    """Raises ValueError naming what is wrong, without any of its values."""
    try:
        order = Order.from_json(body)
    except (ValueError, RecursionError):
        raise ValueError("expected an object with token, attempt and master_port") from None
    if not isinstance(order.token, str) or not order.token:
        raise ValueError("token: expected a text")
    if type(order.attempt) is not int or order.attempt < 1:
        raise ValueError("attempt: expected a number from 1 on")
    if type(order.master_port) is not int or order.master_port not in _PORTS:
        raise ValueError("master_port: expected a number from 1 to 65535")
    return order


def can_restart(summary: Summary) -> bool:
    """Whether another attempt in place could do what this one did not."""
    return summary.exit_code not in _FINAL and not summary.result
