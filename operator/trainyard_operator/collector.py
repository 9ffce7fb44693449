"""Progress reports of running jobs, asked of each gang's first pod at a bounded rate."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from trainyard_operator.contract import PROGRESS_PATH, PROGRESS_PORT, Report
from trainyard_operator.jobstore import JobStore
from trainyard_operator.metrics import REPORTS
from trainyard_operator.progress import is_new_report
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.settings import Settings
from trainyard_operator.status import JobStatus, parse_status

TIMEOUT_SECONDS = 2.0
AT_ONCE = 50
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where one running job reports."""

    key: Key
    uid: str
    address: str
    status: JobStatus


@dataclass
class Collector:
    """Newest report by job uid."""

    jobs: JobStore
    reflector: Reflector
    settings: Settings
    on_report: Callable[[Key], None]
    reports: dict[str, Report] = field(default_factory=dict)

    async def run(self) -> None:
        """Ask for ever."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                targets = self.targets()
                known = {job["metadata"]["uid"] for job in self.jobs.jobs.values()}
                self.reports = {uid: r for uid, r in self.reports.items() if uid in known}
                await asyncio.gather(*(self._ask(session, target) for target in targets))
                await asyncio.sleep(self.pause(len(targets)))

    def pause(self, running: int) -> float:
        """Seconds between two rounds: every report may cost a write of the status."""
        settings = self.settings
        return max(settings.progress_seconds, running / settings.status_writes_per_second)

    def targets(self) -> list[Target]:
        """Jobs whose first pod runs."""
        found = []
        for key, job in self.jobs.jobs.items():
            status, uid = job.get("status") or {}, job["metadata"]["uid"]
            if status.get("phase") not in {"Running", "Starting"}:
                continue
            for pod in self.reflector.snapshot(key, uid):
                if pod.node_index == 0 and pod.running and pod.ip:
                    found.append(Target(key, uid, pod.ip, parse_status(status)))
        return found

    async def _ask(self, session: aiohttp.ClientSession, target: Target) -> None:
        url = f"http://{_host(target.address)}:{PROGRESS_PORT}{PROGRESS_PATH}"
        try:
            async with session.get(url) as response:
                if response.status != 200:
                    REPORTS.labels(outcome="none").inc()
                    return
                report = Report.from_json(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
            # A program that is no recipe serves nothing; a pod may be gone.
            REPORTS.labels(outcome="none").inc()
            return
        REPORTS.labels(outcome="received").inc()
        if report.attempt != target.status.attempt:
            return
        self.reports[target.uid] = report
        if is_new_report(target.status, report, datetime.now(UTC)):
            self.on_report(target.key)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
