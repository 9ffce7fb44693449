"""What a launcher serves to the operator, at an address of the loopback network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from trainyard_operator.contract import PROGRESS_PATH, PROGRESS_PORT, Report


class Trainer(ThreadingHTTPServer):
    """What a launcher serves."""

    body = b"{}"
    asked = 0

    def report(self, attempt: int, step: int, **fields: Any) -> None:
        progress = {"step": step, "steps": 100, "percent": step, "metrics": {"loss": "0.5"}}
        report = Report(attempt=attempt, time="2026-01-01T00:00:00Z", progress=progress, **fields)
        self.body = report.to_json().encode()


class Handler(BaseHTTPRequestHandler):
    server: Trainer

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200 if self.path == PROGRESS_PATH else 404)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(address: str, kind: type[Trainer] = Trainer) -> Iterator[Trainer]:
    """From a thread, at the port that the operator asks."""
    with kind((address, PROGRESS_PORT), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
