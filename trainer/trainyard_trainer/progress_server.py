"""What the operator and Prometheus read of a run: rank 0's newest report, served by the launcher.

It reads a file and runs in a thread of the launcher's process, so that no rank ever waits for it.
"""

import contextlib
import ipaddress
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from trainyard_operator.contract import PROGRESS_PATH, Report
from trainyard_trainer.context import RunContext, report_file

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


class ProgressServer:
    """GET /progress (JSON), /metrics (Prometheus) and /healthz."""

    def __init__(self, run: RunContext, port: int) -> None:
        """Raises OSError where the port is taken. port: 0 picks a free one."""
        host = "127.0.0.1" if is_loopback(run.master_addr) else "0.0.0.0"  # noqa: S104
        handler = type("_RunHandler", (_Handler,), {"run": run})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="progress-server", daemon=True
        ).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def is_loopback(address: str) -> bool:
    """Whether a rendezvous address stays on this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return address == "localhost"


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


class _Handler(BaseHTTPRequestHandler):
    run: RunContext
    timeout = 10
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == PROGRESS_PATH:
            report = read_report(self.run.scratch)
            if report is None:
                self._answer(503, _JSON, '{"error": "no rank has reported yet"}')
            else:
                self._answer(200, _JSON, report.to_json())
        elif path == "/metrics":
            report = read_report(self.run.scratch)
            self._answer(200, _TEXT, prometheus_text(self.run, report))
        elif path == "/healthz":
            self._answer(200, _TEXT, "ok\n")
        else:
            known = f"{PROGRESS_PATH}, /metrics, /healthz"
            self._answer(404, _JSON, json.dumps({"error": f"no '{path}'; there are {known}"}))

    def _answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: probes come every few seconds."""
