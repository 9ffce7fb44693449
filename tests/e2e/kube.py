"""Looking at a cluster from a test: kubectl, trainyard, and waits that explain themselves."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patience import HANG_SECONDS

POLL_SECONDS = 0.5
TRAINYARD = str(Path(sys.executable).with_name("trainyard"))


@dataclass(frozen=True)
class Namespace:
    """One namespace of the cluster under test."""

    name: str
    environment: dict[str, str]

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """kubectl in this namespace; returns stdout, with stderr where `check` is off."""
        return self._run(["kubectl", "-n", self.name, *arguments], stdin, check)

    def trainyard(self, *arguments: str, check: bool = True) -> str:
        """The trainyard command in this namespace."""
        return self._run([TRAINYARD, *arguments, "-n", self.name], None, check)

    def _run(self, command: list[str], stdin: str | None, check: bool) -> str:
        done = subprocess.run(
            command,
            input=stdin,
            env=self.environment,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if check else subprocess.STDOUT,
            timeout=HANG_SECONDS,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def apply(self, job: dict[str, Any]) -> None:
        """kubectl apply; the API server's refusal is the assertion's text."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(job))

    def refusal(self, job: dict[str, Any]) -> str:
        """What kubectl apply prints for a job that is refused."""
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(job), check=False)

    def job(self, name: str) -> dict[str, Any]:
        """The TrainingJob."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "tj", name, "-o", "json"))
        return found

    def status(self, name: str) -> dict[str, Any]:
        """Its status; empty before the operator saw it."""
        status: dict[str, Any] = self.job(name).get("status") or {}
        return status

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """One of its conditions; empty where it was never set."""
        conditions = self.status(name).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def wait_until(
        self,
        name: str,
        question: Callable[[dict[str, Any]], bool],
        what: str,
        seconds: float = HANG_SECONDS,
    ) -> dict[str, Any]:
        """Poll the status until it answers; fails at once when the job has failed instead."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status(name)
            if question(status):
                return status
            if status.get("phase") == "Failed":
                break
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"{name}: not {what}\n{self.explain(name)}")

    def wait_for_phase(
        self, name: str, phase: str, seconds: float = HANG_SECONDS
    ) -> dict[str, Any]:
        """Poll until the job is in a phase."""
        return self.wait_until(name, lambda s: s.get("phase") == phase, phase, seconds)

    def explain(self, name: str) -> str:
        """Status, events and log tails, for the message of a failed assertion."""
        selector = f"trainyard.dev/job={name}"
        return "\n".join(
            [
                json.dumps(self.status(name), indent=1),
                self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-4000:],
                self.kubectl("get", "pods", "-o", "wide", check=False),
                self.kubectl("logs", "-l", selector, "--prefix", "--tail=25", check=False),
            ]
        )


def base_environment(kubeconfig: str, extra: dict[str, str], binaries: Path) -> dict[str, str]:
    """The environment of every command of a test."""
    path = f"{binaries}:{os.environ['PATH']}"
    return {**os.environ, "KUBECONFIG": kubeconfig, "PATH": path, "NO_COLOR": "1", **extra}
