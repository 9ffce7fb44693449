"""A job on the two-node cluster, as an attacker sees it: its pods, its steps, its storage."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests
from integration.api_server import Namespace

from trainyard_operator.contract import PROGRESS_PATH, PROGRESS_PORT, Label

POLL_SECONDS = 0.05
LOOK_SECONDS = 0.3
PATIENCE_SECONDS = 240.0
AWAY = (requests.RequestException, AssertionError)
"""What a request raises while the API server is away, or has only just come back."""


class NothingHappens(AssertionError):
    """What was waited for did not come."""


@dataclass(frozen=True)
class Mark:
    """How far a job was at the moment of a fault; a new job's is all zeros."""

    attempt: int = 0
    step: int = 0
    saved: int = 0
    """Newest checkpoint that the status names."""


@dataclass
class Arena:
    """One job in one namespace. `began` is when the last fault struck, by the monotonic clock."""

    namespace: Namespace
    make_job: Callable[..., dict[str, Any]]
    dice: random.Random
    name: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0
    uid: str = ""
    _address: str = ""
    _looked: float = 0.0

    def submit(self, name: str, **spec: Any) -> None:
        """Create a job, which is the arena's from now on."""
        self.name, self.manifest = name, self.make_job(name, **spec)
        self.create()

    def create(self) -> None:
        """Create the job as it was described, which may have been done before."""
        self.uid, self._address = self.namespace.create(self.manifest)["metadata"]["uid"], ""

    def strike(self) -> None:
        """The clock of this fault begins."""
        self.began = time.monotonic()

    def status(self) -> dict[str, Any]:
        """The job's status."""
        return self.namespace.status(self.name)

    def pods(self) -> dict[str, dict[str, Any]]:
        """The job's pods, by name."""
        found = self.namespace.pods()
        return {name: pod for name, pod in found.items() if name.startswith(f"{self.name}-")}

    def pod(self, node_index: int) -> dict[str, Any]:
        """The pod of one of the two nodes of the gang."""
        return self.pods()[self.pod_name(node_index)]

    def pod_name(self, node_index: int) -> str:
        """Its name."""
        return f"{self.name}-worker-{node_index - 1}" if node_index else f"{self.name}-master-0"

    def report(self) -> dict[str, Any]:
        """What rank 0 says of itself; empty while it does not answer."""
        address = self._address or self._look()
        if not address:
            return {}
        url = f"http://{address}:{PROGRESS_PORT}{PROGRESS_PATH}"
        try:
            said = requests.get(url, timeout=0.5)
            return dict(said.json()) if said.status_code == 200 else {}
        except (requests.RequestException, ValueError):
            self._address = ""
            return {}

    def _look(self) -> str:
        """Ask for the first pod's address, but not at each poll."""
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return ""
        self._looked = now
        try:
            pod = self.pods().get(self.pod_name(0), {})
        except AWAY:
            return ""
        metadata = pod.get("metadata", {})
        is_own = metadata.get("labels", {}).get(Label.JOB_UID) == self.uid
        is_there = is_own and "deletionTimestamp" not in metadata
        self._address = pod["status"].get("podIP", "") if is_there else ""
        return self._address

    def mark(self) -> Mark:
        """Where the job stands now."""
        job, report = self.namespace.job(self.name), self.report()
        latest = (job["status"].get("checkpoints") or {}).get("latest") or {}
        return Mark(
            attempt=job["status"]["attempt"],
            step=step_of(report),
            saved=latest.get("step", 0),
        )

    def wait_until_trained(self, steps: int, share: float) -> bool:
        """Until the newest attempt is that far and a checkpoint is stored; False: the job was
        beyond that share of its steps before."""

        def question() -> str:
            report, status = self.report(), self.status()
            progress = report.get("progress") or {}
            if status.get("phase") == "Succeeded" or (progress.get("percent") or 0) > share * 100:
                return "too far"
            is_newest = report.get("attempt") == status.get("attempt")
            far = step_of(report) >= (report.get("resumed_step") or 0) + steps
            saved = (status.get("checkpoints") or {}).get("latest")
            ready = is_newest and far and saved and status.get("phase") == "Running"
            return "ready" if ready else ""

        return bool(self.wait(question, f"{steps} steps") == "ready")

    def next_step(self, mark: Mark, *, same_attempt: bool) -> tuple[float, dict[str, Any]]:
        """Seconds from the strike until a step was reported that was trained after it, and the
        report that says so.

        same_attempt: the fault ends no attempt. A report that shows a new step may have been
        written before the strike, so the second one counts.
        """
        seen = [mark.step]

        def question() -> dict[str, Any] | None:
            report = self.report()
            step = step_of(report)
            if same_attempt:
                if step != seen[-1] and report:
                    seen.append(step)
                return report if len(seen) > 2 else None
            is_new = report.get("attempt", 0) > mark.attempt
            return report if is_new and step > (report.get("resumed_step") or 0) else None

        report = self.wait(question, "a new step", POLL_SECONDS)
        return time.monotonic() - self.began, report

    def wait(self, question: Callable[[], Any], what: str, interval: float = 0.25) -> Any:
        """Poll until it answers. Raises NothingHappens with all that can be told."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                if answer := question():
                    return answer
                phase = self.status().get("phase") if interval > POLL_SECONDS else None
            except AWAY:
                phase = None
            if phase == "Failed":
                break
            time.sleep(interval)
        raise NothingHappens(f"{self.name}: not {what}\n{self.explain()}")

    def explain(self) -> str:
        """Status and events, for a person."""
        status = self.status()
        lines = [f"{e['attempt']} {e['type']}: {e['message']}" for e in status.get("history", [])]
        states = [(n, p["status"].get("phase")) for n, p in self.pods().items()]
        shown = {key: status.get(key) for key in ("phase", "attempt", "progress", "conditions")}
        return "\n".join([str(shown), *lines, str(states)])


def step_of(report: dict[str, Any]) -> int:
    """The step that a report shows."""
    return int((report.get("progress") or {}).get("step") or 0)
