"""A Prometheus that scrapes operators each half second, as the PodMonitor says."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml
from cluster.process import spawn, tail
from cluster.prometheus import prometheus
from integration.helm_chart import CHART
from patience import WAIT_SECONDS
from ports import free_ports

ALERTS = CHART / "files" / "alerts.yaml"
HOLD_SECONDS, STEP_SECONDS, SAVE_SECONDS = 4, 6, 15
"""Of `quick_rules`: for how long a condition must hold; without a step, and without a checkpoint,
for how long before that."""
POLL_SECONDS = 0.25
SCRAPE = "trainyard"
"""What Prometheus calls a job: here, the operators."""


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer; None while it starts. Raises AssertionError for a bad query."""
        try:
            answer = requests.get(f"{self.url}/api/v1/{path}", params=query, timeout=10).json()
        except (requests.ConnectionError, requests.JSONDecodeError):
            return None
        assert answer["status"] == "success", f"{query}: {answer}"
        return answer["data"]

    def ask(self, query: str) -> list[Any]:
        """The samples; none while it starts."""
        data = self.get("query", query=query)
        return list(data["result"]) if data else []

    def firing(self) -> set[tuple[str, str]]:
        """Names of alerts, with the job that each is about; empty for the operator."""
        data = self.get("alerts") or {"alerts": ()}
        labels = [each["labels"] for each in data["alerts"] if each["state"] == "firing"]
        return {(each["alertname"], each.get("job", "").removeprefix(SCRAPE)) for each in labels}

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Poll until it does."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"{what} did not come; {self.get('alerts')}"
            time.sleep(POLL_SECONDS)


def quick_rules(folder: Path) -> Path:
    """A file of the chart's rules, with seconds for minutes."""
    text = ALERTS.read_text()
    for minutes, seconds in (("> 7200", f"> {SAVE_SECONDS}"), ("[15m]", f"[{STEP_SECONDS}s]")):
        assert minutes in text
        text = text.replace(minutes, seconds)
    rules = yaml.safe_load(text)
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = f"{HOLD_SECONDS}s"
    path = folder / "quick-rules.yaml"
    path.write_text(yaml.safe_dump(rules))
    return path


@contextmanager
def watching(folder: Path, operators: dict[str, str], rules: Path) -> Iterator[Prometheus]:
    """operators: address and port by the name of the pod."""
    targets = [{"targets": [address], "labels": {"pod": pod}} for pod, address in operators.items()]
    scrape = {"job_name": SCRAPE, "honor_labels": True, "static_configs": targets}
    timing = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config = {"global": timing, "rule_files": [str(rules)], "scrape_configs": [scrape]}
    path, log = folder / "prometheus.yml", folder / "prometheus.log"
    path.write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    options = [
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    daemon = spawn("prometheus", [prometheus(), *options], log)
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        daemon.kill()
        print(tail(log, 20))
