"""What progress costs: writes to the API server while so many jobs report, and while they stand."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.scale_world import ADDRESS

from trainyard_operator.contract import PROGRESS_PORT, now_text

SECONDS = 20.0


@dataclass
class Training:
    """All pods have the address of this machine, so one server reports for all of them."""

    moves: bool = True
    step: int = 0

    def report(self) -> bytes:
        """With another step each time, unless training stands still."""
        self.step += self.moves
        progress = {"step": self.step, "steps": 1_000_000, "percent": 1}
        found = {"attempt": 1, "time": now_text(datetime.now(UTC)), "progress": progress}
        return json.dumps(found).encode()


@contextmanager
def reporting(training: Training) -> Iterator[None]:
    """Serves, on the port that every pod reports on."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = training.report()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer((ADDRESS, PROGRESS_PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def writes_a_second(count_writes: Callable[[], float]) -> float:
    """Over some seconds."""
    before, began = count_writes(), time.monotonic()
    time.sleep(SECONDS)
    return (count_writes() - before) / (time.monotonic() - began)
