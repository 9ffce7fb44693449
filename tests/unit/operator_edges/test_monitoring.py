"""Alerts, dashboard and `helm test` as the chart ships them."""

import http.server
import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "charts" / "trainyard" / "files"


def known_metrics() -> set[str]:
    """The operator's, of docs/metrics.md, which another test keeps in line with the code."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    section = page.partition("## Of the operator\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) ", section, re.M)
    parts = {"histogram": ("_bucket", "_count", "_sum")}
    return {name + part for name, kind in rows for part in parts.get(kind, ("",))}


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\btrainyard_\w+", query))


def rules() -> list[dict]:
    return yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]


def queries() -> list[str]:
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_alerts_ask_for_metrics_that_exist() -> None:
    assert all(metrics_in(rule["expr"]) for rule in rules())
    assert {name for rule in rules() for name in metrics_in(rule["expr"])} <= known_metrics()


def test_dashboard_asks_for_every_metric_of_the_operator() -> None:
    asked = {name for query in queries() for name in metrics_in(query)}
    assert asked <= known_metrics()
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in known_metrics()}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in asked} == families


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alert_has_its_runbook_and_the_list_names_it(rule: dict) -> None:
    page = ROOT / rule["annotations"]["runbook"]
    assert page.stem == rule["alert"]
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n\nAn alert: ")
    for heading in ("What it means", "What to look at", "What to do"):
        assert f"\n## {heading}\n" in text
    assert f"]({page.name})" in (page.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """The program of `helm test`, not run."""
    path = FILES / "check_release.py"
    spec = importlib.util.spec_from_file_location("check_release", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def replica(*, ready: bool, leader: float) -> Iterator[int]:
    """What a replica answers; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            metrics = self.path == "/metrics"
            self.send_response(200 if ready or metrics else 503)
            self.end_headers()
            self.wfile.write(f"trainyard_leader {leader}\n".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("ready", "leader", "replicas", "problem"),
    [
        (True, 1.0, 1, ""),
        (False, 1.0, 1, "127.0.0.1: HTTP Error 503: Service Unavailable"),
        (True, 0.0, 1, "127.0.0.1: 0 replicas act, and not one"),
        (True, 1.0, 2, "127.0.0.1: 1 of 2 replicas have an address"),
    ],
)
def test_helm_test_tells_what_is_wrong(
    check: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    ready: bool,
    leader: float,
    replicas: int,
    problem: str,
) -> None:
    with replica(ready=ready, leader=leader) as port:
        monkeypatch.setattr(check, "PORT", port)
        assert check.problem("127.0.0.1", replicas) == problem
