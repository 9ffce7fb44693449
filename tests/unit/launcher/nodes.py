"""Builders of what a launcher is given."""

import http.client
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patience import WAIT_SECONDS

from trainyard_operator.contract import (
    ORDER_PATH,
    STANDBY_PATH,
    STANDBY_WAIT_SECONDS,
    Env,
    Order,
    Standby,
    bearer,
)
from trainyard_trainer.context import RunContext

Launch = Callable[[str, dict[str, str]], "subprocess.Popen[str]"]
"""Starts a launcher whose ranks run a function of `trainees.py`."""
RUN_PREFIX = "research/nodules/uid-1"
TOKEN = "only-the-planner-knows"

TRAINING = (
    "[node 0] rank 0 started",
    "[node 0] rank 1 started",
    "training",
    "[rank 1] training",
)
"""How the lines begin that two ranks of `ignore_stop` and `save_when_told` make."""


def make_environ(folder: Path, *, ranks: int = 2, **request: Any) -> dict[str, str]:
    """The environment of the only node of a job, everything below `folder`."""
    return {
        Env.JOB: "nodules",
        Env.NAMESPACE: "research",
        Env.JOB_UID: "uid-1",
        Env.ATTEMPT: "1",
        Env.NODES: "1",
        Env.NODE_INDEX: "0",
        Env.PROCESSES_PER_NODE: str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "23456",
        Env.SCRATCH: str(folder / "scratch"),
        Env.TERMINATION_LOG: str(folder / "termination-log"),
        Env.STORAGE_URI: (folder / "storage").as_uri(),
        Env.RUN: json.dumps({"recipe": "classification", **request}),
    }


def make_run(folder: Path, *, ranks: int = 2, **request: Any) -> RunContext:
    """The same, read."""
    return RunContext.from_environ(make_environ(folder, ranks=ranks, **request))


@dataclass(frozen=True)
class Planner:
    """What a planner does to one launcher over HTTP."""

    port: int
    token: str = TOKEN

    def environ(self, folder: Path, *, ranks: int = 2) -> dict[str, str]:
        """Of a launcher that takes this planner's orders."""
        own = {Env.PROGRESS_PORT: str(self.port), Env.ORDER_TOKEN: TOKEN}
        return make_environ(folder, ranks=ranks) | own

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        """Status and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path, body, bearer(self.token))
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def standby(self, wait_seconds: float = WAIT_SECONDS) -> Standby | None:
        """Wait for it; the launcher may still be about to serve."""
        deadline = time.monotonic() + wait_seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            path = f"{STANDBY_PATH}?wait={min(left, STANDBY_WAIT_SECONDS):g}"
            try:
                status, body = self.request("GET", path)
            except ConnectionRefusedError:
                if not left:
                    raise
                time.sleep(0.01)
            else:
                if status == 200:
                    return Standby.from_json(body)
                if not left:
                    return None

    def order(self, attempt: int, *, token: str = TOKEN, master_port: int = 23999) -> int:
        """Status of the answer."""
        order = Order(token=token, attempt=attempt, master_port=master_port)
        return self.request("POST", ORDER_PATH, order.to_json())[0]


def wait_for_lines(process: "subprocess.Popen[str]", *beginnings: str) -> None:
    """Read the output until a line of each kind has come."""
    awaited = set(beginnings)
    assert process.stdout is not None
    while awaited:
        line = process.stdout.readline()
        assert line, f"ended before {awaited} came"
        awaited -= {beginning for beginning in awaited if line.startswith(beginning)}
