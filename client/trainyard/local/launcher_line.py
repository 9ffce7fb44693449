"""The line to one launcher on this machine: whether it stands by, and the orders it is given."""

import contextlib
import http.client
from datetime import datetime

from trainyard_operator.contract import (
    ORDER_PATH,
    STANDBY_PATH,
    STANDBY_WAIT_SECONDS,
    Order,
    Standby,
    bearer,
)
from trainyard_operator.observed import SeenStandby, standing_by

HOST = "127.0.0.1"
ANSWER_SECONDS = 2.0
_UNREACHED = (OSError, ValueError, http.client.HTTPException)


class LauncherLine:
    """A question that is always open, without a thread: where `ask` is true, `fileno` becomes
    readable as soon as the launcher stands by."""

    def __init__(self, port: int, token: str) -> None:
        """token: of the gang; without the right one nothing is told."""
        self._port, self._token = port, token
        self._question: http.client.HTTPConnection | None = None

    def fileno(self) -> int:
        """For select."""
        return self._question.sock.fileno() if self._question else -1

    def ask(self) -> bool:
        """Whether the question is open now; false until the launcher serves."""
        if self._question is None:
            connection = http.client.HTTPConnection(HOST, self._port, timeout=ANSWER_SECONDS)
            try:
                connection.request(
                    "GET",
                    f"{STANDBY_PATH}?wait={STANDBY_WAIT_SECONDS}",
                    headers=bearer(self._token),
                )
            except _UNREACHED:
                connection.close()
                return False
            self._question = connection
        return True

    def hear(self, now: datetime) -> SeenStandby | None:
        """The answer that has come; None where ranks still run."""
        try:
            answer = self._question.getresponse() if self._question else None
            if answer is None or answer.status != http.client.OK:
                return None
            return standing_by(Standby.from_json(answer.read()), now)
        except _UNREACHED:
            return None
        finally:
            self.close()

    def order(self, order: Order) -> bool:
        """Have an attempt begun in place; whether the launcher agrees."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=ANSWER_SECONDS)
        with contextlib.closing(connection), contextlib.suppress(*_UNREACHED):
            connection.request("POST", ORDER_PATH, order.to_json())
            return connection.getresponse().status == http.client.ACCEPTED
        return False

    def close(self) -> None:
        """Ask no more."""
        if self._question:
            self._question.close()
            self._question = None
