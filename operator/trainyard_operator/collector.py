"""Progress reports of running jobs, asked of each gang's first pod at a bounded rate."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from trainyard_operator.contract import PROGRESS_PATH, PROGRESS_PORT, Report
from trainyard_operator.metrics import REPORTS
from trainyard_operator.notices import is_worth_a_look
from trainyard_operator.objectcache import ObjectCache
from trainyard_operator.podhttp import UNREACHED, read_body, url_of
from trainyard_operator.progress import is_new_report, parse_report
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.settings import Settings
from trainyard_operator.status import parse_status

TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Target:
    """Where one running job reports."""

    key: Key
    uid: str
    address: str


@dataclass
class Collector:
    """Newest report by job uid."""

    jobs: ObjectCache
    reflector: Reflector
    settings: Settings
    on_report: Callable[[Key], None]
    reports: dict[str, Report] = field(default_factory=dict)
    port: int = PROGRESS_PORT
    beat: Callable[[], None] = lambda: None
    """Called at each turn."""

    async def run(self) -> None:
        """Ask for ever, evenly over time: a report may cost a write of the status."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                self.beat()
                targets = self.targets()
                self.forget_absent()
                period = self.period(len(targets))
                for target in targets:
                    self.beat()
                    group.create_task(self.ask(session, target))
                    await asyncio.sleep(period / len(targets))
                if not targets:
                    await asyncio.sleep(period)

    def period(self, running: int) -> float:
        """Seconds in which every running job is asked once."""
        settings = self.settings
        return max(settings.progress_seconds, running / settings.status_writes_per_second)

    def targets(self) -> list[Target]:
        """Jobs whose first pod runs."""
        found = []
        for key, job in self.jobs.objects.items():
            if (job.get("status") or {}).get("phase") not in {"Running", "Starting"}:
                continue
            uid = job["metadata"]["uid"]
            for pod in self.reflector.snapshot(key, uid):
                if pod.node_index == 0 and pod.running and pod.ip:
                    found.append(Target(key, uid, pod.ip))
        return found

    def forget_absent(self) -> None:
        """Drop the reports of jobs that are gone."""
        known = set(self.jobs.uids().values())
        self.reports = {uid: report for uid, report in self.reports.items() if uid in known}

    async def ask(self, session: aiohttp.ClientSession, target: Target) -> None:
        """One report. A program that is no recipe serves none, and a pod may be gone."""
        url = url_of(target.address, self.port, PROGRESS_PATH)
        try:
            async with session.get(url, allow_redirects=False) as response:
                report = await _read(response) if response.status == 200 else None
        except UNREACHED:
            report = None
        REPORTS.labels(outcome="received" if report else "none").inc()
        if report:
            self.take(target, report)

    def take(self, target: Target, report: Report) -> None:
        """Keep a report of the newest attempt; the job is looked at if it says anything new.

        One of a later attempt than the status knows of is kept, too: the status was lost.
        """
        job = self.jobs.get(target.key)
        if job is None or job["metadata"]["uid"] != target.uid:
            return
        status = parse_status(job.get("status"))
        if report.attempt < status.attempt:
            return
        self.reports[target.uid] = report
        is_later = report.attempt > status.attempt
        is_news = is_new_report(status, report, datetime.now(UTC)) or is_worth_a_look(
            status, report
        )
        if is_later or is_news:
            self.on_report(target.key)


async def _read(response: aiohttp.ClientResponse) -> Report:
    """Raises ValueError where the body is no report."""
    report = parse_report(json.loads(await read_body(response)))
    if report is None:
        raise ValueError("no report")
    return report
