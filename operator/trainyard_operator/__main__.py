"""`python -m trainyard_operator`: connect, start the loops, end when one of them ends."""

import asyncio
import dataclasses
import logging
import os
import secrets
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from trainyard_operator import metrics
from trainyard_operator.collector import Collector
from trainyard_operator.errors import KubeError, LoginError, NotFound
from trainyard_operator.handlers import build_registry, watch_jobs
from trainyard_operator.health import Health
from trainyard_operator.jobstore import JobStore, key_of, relist
from trainyard_operator.kube import Kube, connect
from trainyard_operator.launchers import Launchers
from trainyard_operator.reconciler import Reconciler
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.settings import Settings, SettingsError, read_settings
from trainyard_operator.status import FINISHED
from trainyard_operator.workqueue import WorkQueue

COUNT_SECONDS = 10.0
RETRY_SECONDS = 5.0
_log = logging.getLogger("trainyard_operator")


class Operator:
    """The loops of one process and what they share."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self.kube, self.settings = kube, settings
        self.queue: WorkQueue[Key] = WorkQueue(clock=asyncio.get_running_loop().time)
        self.jobs = JobStore()
        self.reflector = Reflector(kube, settings.scopes, on_change=self.queue.add)
        self.collector = Collector(self.jobs, self.reflector, settings, on_report=self.queue.add)
        self.launchers = Launchers(self.reflector, on_change=self.queue.add)
        self.reconciler = Reconciler(
            kube,
            self.jobs,
            self.reflector,
            self.collector,
            self.launchers,
            self.queue,
            dataclasses.replace(settings.defaults, secret=secrets.token_hex()),
        )
        self.listed, self.watching = asyncio.Event(), asyncio.Event()
        self.stopped = asyncio.Event()
        self.health = Health(
            missing=self.missing,
            watch_silence=self.reflector.silence,
            oldest_job=self.queue.oldest_seconds,
        )

    async def run(self) -> None:
        """Until a signal comes. Raises RuntimeError if a loop ends, which none ever does."""
        port = self.settings.health_port
        server = await self.health.serve(port) if port else None
        loops = [
            self.reflector.run(),
            self.collector.run(),
            self.launchers.run(),
            self.count(),
            self.keep_listed(),
        ]
        try:
            await _until_one_ends([*loops, self.work(), self.watch()], self.wait_for_signal())
        finally:
            if server:
                await server.cleanup()
            await self.kube.close()

    def missing(self) -> list[str]:
        """What has to happen before decisions are made."""
        steps = {
            "jobs are not listed yet": self.listed,
            "pods are not listed yet": self.reflector.synced,
            "jobs are not watched yet": self.watching,
        }
        return [text for text, event in steps.items() if not event.is_set()]

    def job_changed(self, type_: str, job: dict[str, Any]) -> None:
        """The watch tells of a job."""
        if type_ == "DELETED":
            self.jobs.remove(job)
            self.queue.add(key_of(job))
        elif self.jobs.put(job):
            self.queue.add(key_of(job))

    async def watch(self) -> None:
        """kopf's part. It looks for the resource once, so this waits until there is one."""
        await self.listed.wait()
        registry = build_registry(self.job_changed)
        await watch_jobs(registry, self.settings.scopes, self.watching, self.take_signals)

    async def wait_for_signal(self) -> None:
        """Ends at SIGTERM or SIGINT."""
        self.take_signals()
        await self.stopped.wait()

    def take_signals(self) -> None:
        """SIGTERM and SIGINT end `wait_for_signal`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stopped.set)

    async def work(self) -> None:
        """Nothing is decided before the pods are known."""
        await self.reflector.synced.wait()
        await self.queue.run(self.reconciler.work, self.settings.workers)

    async def keep_listed(self) -> None:
        """List the jobs at the start and now and then; look again at all that are not done."""
        while True:
            try:
                changed = await relist(self.jobs, self.kube, self.settings.scopes)
            except KubeError as error:
                hint = " Is manifests/crd applied?" if isinstance(error, NotFound) else ""
                _log.warning("TrainingJobs cannot be listed: %s.%s", error.message, hint)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.listed.set()
            for key in {*changed, *(k for k, job in self.jobs.jobs.items() if _is_open(job))}:
                self.queue.add(key)
            await asyncio.sleep(self.settings.resync_seconds)

    async def count(self) -> None:
        """Keep the number of jobs by phase."""
        while True:
            metrics.JOBS.clear()
            for phase, count in self.jobs.phases().items():
                metrics.JOBS.labels(phase=phase).set(count)
            await asyncio.sleep(COUNT_SECONDS)


def _is_open(job: dict[str, Any]) -> bool:
    return (job.get("status") or {}).get("phase") not in FINISHED


async def _until_one_ends(
    endless: list[Coroutine[Any, Any, None]], end: Coroutine[Any, Any, None]
) -> None:
    """Run all until one ends. Raises what it raised, or RuntimeError if it was endless."""
    ending = asyncio.ensure_future(end)
    tasks = [asyncio.ensure_future(each) for each in endless] + [ending]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
    if ending not in done:
        raise RuntimeError("a loop of the operator ended")


async def _run(settings: Settings) -> None:
    await Operator(await connect(), settings).run()


def main() -> int:
    """Returns the exit code."""
    try:
        settings = read_settings(sys.argv[1:], os.environ)
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=settings.log_level.upper(), format=form, stream=sys.stderr)
    try:
        asyncio.run(_run(settings))
    except LoginError as error:
        _log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
