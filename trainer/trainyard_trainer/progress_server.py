"""What a launcher serves: rank 0's newest report on the first node, and on all of them the way to
start their ranks again in place.

It runs in threads of the launcher's process, so that no rank ever waits for it.
"""

import contextlib
import dataclasses
import ipaddress
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from trainyard_operator.contract import (
    ORDER_PATH,
    PROGRESS_PATH,
    STANDBY_PATH,
    STANDBY_WAIT_SECONDS,
    Report,
)
from trainyard_trainer.context import RunContext, report_file
from trainyard_trainer.standby import OrderDesk, parse_order

ORDER_BYTES = 4096
"""An order is far smaller."""
POST_BYTES = 64 * 1024
"""Of a program's own report."""


_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_JSON = "application/json"
_PROGRESS_NUMBERS = {
    "epoch": "Epoch that the run is in.",
    "epochs": "Epochs of the run.",
    "step": "Optimizer steps done.",
    "steps": "Optimizer steps of the run.",
    "percent": "Part of the run that is done, 0 to 100.",
    "samplesPerSecond": "Training samples per second over all ranks.",
}


Inbox = Callable[[bytes, str], tuple[int, str]]
"""Takes a body and the bearer's token; gives a status, and why where it is no 200."""


class ProgressServer:
    """GET /standby and /healthz, POST /order; on the first node /progress and /metrics, too."""

    def __init__(
        self, run: RunContext, port: int, desk: OrderDesk, inboxes: Mapping[str, Inbox] = {}
    ) -> None:
        """Raises OSError where the port is taken. port: 0 picks a free one.

        inboxes: what is taken by POST from processes of the same pod, by path.
        """
        host = "127.0.0.1" if run.is_local else "0.0.0.0"  # noqa: S104
        self._server = _Server((host, port), _Handler)
        self._server.run, self._server.desk, self._server.inboxes = run, desk, inboxes
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="progress-server", daemon=True
        ).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def read_report(scratch: Path) -> Report | None:
    """Rank 0's newest report; None while there is none."""
    try:
        return Report.from_json(report_file(scratch).read_bytes())
    except (OSError, ValueError):
        return None


def prometheus_text(run: RunContext, report: Report | None) -> str:
    """A report's numbers in Prometheus' text format; what is unknown is left out."""
    labels = {"namespace": run.namespace, "job": run.job}
    lines = [*_family("trainyard_attempt", "Attempt that runs.", [(labels, run.attempt)])]
    if report is not None:
        lines += _report_lines(labels, report)
    return "\n".join(lines) + "\n"


def _report_lines(labels: dict[str, str], report: Report) -> Iterator[str]:
    progress = report.progress or {}
    for key, help_text in _PROGRESS_NUMBERS.items():
        name = "samples_per_second" if key == "samplesPerSecond" else key
        yield from _family(f"trainyard_{name}", help_text, [(labels, progress.get(key))])
    metrics = progress.get("metrics") or {}
    yield from _family(
        "trainyard_metric",
        "Newest value of each metric of the recipe.",
        [(labels | {"name": name}, value) for name, value in metrics.items()],
    )
    kinds = {"latest": report.latest or {}, "best": report.best or {}}
    for key, help_text in {"step": "Step of a checkpoint.", "bytes": "Size of it."}.items():
        yield from _family(
            f"trainyard_checkpoint_{key}",
            help_text,
            [(labels | {"kind": kind}, value.get(key)) for kind, value in kinds.items()],
        )
    yield from _family("trainyard_checkpoints_kept", "Checkpoints stored.", [(labels, report.kept)])


def _family(name: str, help_text: str, samples: list[tuple[dict[str, str], Any]]) -> Iterator[str]:
    rows = []
    for labels, value in samples:
        with contextlib.suppress(TypeError, ValueError):
            text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
            rows.append(f"{name}{{{text}}} {float(value):.12g}")
    if rows:
        yield from (f"# HELP {name} {help_text}", f"# TYPE {name} gauge", *rows)


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Server(ThreadingHTTPServer):
    run: RunContext
    desk: OrderDesk
    inboxes: Mapping[str, Inbox]
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of whoever has gone before the answer."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # The body would else wait for the headers' acknowledgement.

    def do_GET(self) -> None:
        """Answer one request."""
        path, _, query = self.path.partition("?")
        answers = {
            "/healthz": lambda: self._answer(200, "ok\n", _TEXT),
            STANDBY_PATH: lambda: self._answer_standby(query),
        }
        if self.server.run.node_index == 0:
            answers |= {PROGRESS_PATH: self._answer_progress, "/metrics": self._answer_metrics}
        if answer := answers.get(path):
            answer()
        else:
            self._refuse(404, f"no '{path}'; there are {', '.join(sorted(answers))}")

    def do_POST(self) -> None:
        """Take an order; the connection ends with it, whatever else was sent."""
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if inbox := self.server.inboxes.get(self.path):
            self._take(inbox, length)
        elif self.path != ORDER_PATH:
            self._refuse(404, f"no '{self.path}'; orders are taken at {ORDER_PATH}")
        elif not length.isdecimal() or int(length) > ORDER_BYTES:
            self._refuse(400, f"send a Content-Length of at most {ORDER_BYTES}")
        else:
            try:
                order = parse_order(self.rfile.read(int(length)))
            except ValueError as error:
                self._refuse(400, str(error))
                return
            status, reason = self.server.desk.hand_in(order)
            key = "message" if status == HTTPStatus.ACCEPTED else "error"
            self._answer(status, json.dumps({key: reason}))

    def _take(self, inbox: Inbox, length: str) -> None:
        if not ipaddress.ip_address(self.client_address[0]).is_loopback:
            self._refuse(403, "only processes of this pod may report")
        elif not length.isdecimal() or int(length) > POST_BYTES:
            self._refuse(400, f"send a Content-Length of at most {POST_BYTES}")
        else:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, reason = inbox(self.rfile.read(int(length)), token)
            self._answer(status, json.dumps({"error": reason} if reason else {}))

    def _answer_progress(self) -> None:
        report = read_report(self.server.run.scratch)
        if report is None:
            self._refuse(503, "no rank has reported yet")
        else:
            self._answer(200, report.to_json())

    def _answer_metrics(self) -> None:
        run = dataclasses.replace(self.server.run, attempt=self.server.desk.attempt)
        self._answer(200, prometheus_text(run, read_report(run.scratch)), _TEXT)

    def _answer_standby(self, query: str) -> None:
        try:
            seconds = float(parse_qs(query).get("wait", ["0"])[-1])
        except ValueError:
            seconds = math.nan
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.server.desk.knows(token):
            self._refuse(403, "the token is not this gang's")
        elif not 0 <= seconds <= STANDBY_WAIT_SECONDS:
            self._refuse(400, f"wait: expected 0 to {STANDBY_WAIT_SECONDS} seconds")
        elif standby := self.server.desk.standby(seconds):
            self._answer(200, standby.to_json())
        else:
            self._answer(204, "")

    def _refuse(self, status: int, reason: str) -> None:
        self._answer(status, json.dumps({"error": reason}))

    def _answer(self, status: int, text: str, content_type: str = _JSON) -> None:
        body = text.encode()
        self.send_response(status)
        if body:
            self.send_header("Content-Type", content_type)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: probes come every few seconds."""
