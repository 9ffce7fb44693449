"""`python -m trainyard_operator`: connect, start the loops, end when one of them ends."""

import asyncio
import dataclasses
import gc
import logging
import math
import os
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from prometheus_client import REGISTRY

from trainyard_operator import health, metrics
from trainyard_operator.collector import Collector
from trainyard_operator.errors import KubeError, LeaseLost, LoginError, NotFound
from trainyard_operator.eventposter import EventPoster
from trainyard_operator.handlers import build_registry, watch_jobs
from trainyard_operator.health import Check, Health, Pulse
from trainyard_operator.jobmetrics import JobMetrics
from trainyard_operator.kube import SWEEPS, Kube, connect, own_namespace
from trainyard_operator.launchers import Launchers
from trainyard_operator.leader import Leader
from trainyard_operator.logform import set_up_logging
from trainyard_operator.objectcache import ObjectCache, key_of, relist
from trainyard_operator.reconciler import Reconciler
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.settings import Settings, SettingsError, read_settings
from trainyard_operator.status import FINISHED
from trainyard_operator.sweeper import Sweeper
from trainyard_operator.sweepmetrics import SweepMetrics
from trainyard_operator.trials import SweepKey, Trials
from trainyard_operator.workqueue import WorkQueue

RETRY_SECONDS = 5.0
TICK_SECONDS = 5.0
GANG_SECONDS = 0.2
"""How long a pod that got on waits for the others of its gang."""
LATE_LIST_SECONDS = 60.0
"""A watch that is behind for so long is made good by a list, again after each such time."""
_log = logging.getLogger("trainyard_operator")


class Operator:
    """The loops of one process and what they share."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self.settings = settings
        self.leader = build_leader(kube, settings)
        if self.leader:
            kube = dataclasses.replace(kube, seconds_to_act=self.leader.seconds_to_act)
        self.kube = kube
        self.queue: WorkQueue[Key | SweepKey] = WorkQueue(clock=asyncio.get_running_loop().time)
        self.trials = Trials(on_change=self.look_at)
        self.jobs = ObjectCache(scopes=settings.scopes, on_change=self.trials.take)
        self.sweeps = ObjectCache(scopes=settings.scopes, collection=SWEEPS)
        self.reflector = Reflector(kube, settings.scopes, self.look_at, self.look_at_gang)
        pulses = {name: Pulse() for name in ("reports", "launchers", "lists")}
        self.collector = Collector(
            self.jobs, self.reflector, settings, self.look_at, beat=pulses["reports"].beat
        )
        self.launchers = Launchers(
            self.reflector, on_change=self.look_at, beat=pulses["launchers"].beat
        )
        defaults = dataclasses.replace(settings.defaults, secret=secrets.token_hex())
        poster = EventPoster(kube)
        self.reconciler = Reconciler(
            kube,
            self.jobs,
            self.queue,
            poster,
            self.reflector,
            self.collector,
            self.launchers,
            defaults,
        )
        self.sweeper = Sweeper(
            kube, self.sweeps, self.queue, poster, self.trials, self.jobs, defaults
        )
        self.listed, self.watching = asyncio.Event(), asyncio.Event()
        self.leading, self.stopped = asyncio.Event(), asyncio.Event()
        self.lists = pulses["lists"]
        self.health = Health(missing=self.missing, checks=build_checks(self, pulses))

    async def run(self) -> None:
        """Until a signal comes. Raises LeaseLost, or RuntimeError if a loop ends, which none ever
        does."""
        port = self.settings.health_port
        server = await self.health.serve(port) if port else None
        series = JobMetrics(self.jobs_told), SweepMetrics(self.sweeps_told, self.trials.of)
        for one in series:
            REGISTRY.register(one)
        try:
            await _until_one_ends(
                [self.keep_listed(), self.watch(), self.lead()], self.wait_for_signal()
            )
        finally:
            for one in series:
                REGISTRY.unregister(one)
            await self.reconciler.poster.finish()
            if self.leader:
                await self.leader.release()
            if server:
                await server.cleanup()
            await self.kube.close()

    async def lead(self) -> None:
        """Wait to become the leader, then act for ever. Raises LeaseLost."""
        keep = []
        if self.leader:
            await self.leader.campaign()
            keep = [self.leader.keep()]
        self.leading.set()
        metrics.LEADER.set(1)
        parts = (self.reflector, self.collector, self.launchers, self.reconciler.poster)
        await _until_one_ends([*keep, *(part.run() for part in parts), self.work()])

    def missing(self) -> list[str]:
        """What has to happen before the operator is ready; a replica that waits to lead is."""
        steps = {
            "jobs are not listed yet": self.listed,
            "jobs are not watched yet": self.watching,
        }
        if self.leading.is_set():
            steps["pods are not listed yet"] = self.reflector.synced
        return [text for text, event in steps.items() if not event.is_set()]

    def jobs_told(self) -> dict[Key, dict[str, Any]]:
        """Of which jobs this replica has metrics: two that tell of one would count it twice."""
        return self.jobs.objects if self.leading.is_set() else {}

    def sweeps_told(self) -> dict[Key, dict[str, Any]]:
        """The same of sweeps."""
        return self.sweeps.objects if self.leading.is_set() else {}

    def look_at(self, key: Key | SweepKey) -> None:
        """Soon; a replica that does not lead will look at everything once it does."""
        if self.leading.is_set():
            self.queue.add(key)

    def look_at_gang(self, key: Key) -> None:
        """Once its other pods have got on as well."""
        if self.leading.is_set():
            self.queue.add_at(key, self.queue.clock() + GANG_SECONDS)

    def job_changed(self, type_: str, job: dict[str, Any]) -> None:
        """The watch tells of a job."""
        if self.jobs.hear(type_, job):
            self.look_at(key_of(job))

    def sweep_changed(self, type_: str, sweep: dict[str, Any]) -> None:
        """The watch tells of a sweep."""
        if self.sweeps.hear(type_, sweep):
            self.look_at(SweepKey(*key_of(sweep)))

    async def work_on(self, key: Key | SweepKey) -> bool:
        """Look at a job or a sweep; returns whether it went well. Raises nothing."""
        if isinstance(key, SweepKey):
            return await self.sweeper.work(key)
        return await self.reconciler.work(key)

    async def watch(self) -> None:
        """kopf's part. It looks for the resource once, so this waits until there is one."""
        await self.listed.wait()
        registry = build_registry(self.job_changed, self.sweep_changed)
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
        """Nothing is decided before jobs and pods are known as they are since this one leads."""
        await self.reflector.synced.wait()
        await self.list_jobs_until_answered()
        for key in self.known():
            self.queue.add(key)
        await self.queue.run(self.work_on, self.settings.workers)

    def known(self) -> list[Key | SweepKey]:
        """Every job and sweep."""
        return [*self.jobs.objects, *(SweepKey(*key) for key in self.sweeps.objects)]

    async def keep_listed(self) -> None:
        """List the jobs at the start and now and then; look again at all that are not done."""
        while True:
            await self.list_jobs_until_answered()
            self.listed.set()
            for key in self.known():
                cache = self.sweeps if isinstance(key, SweepKey) else self.jobs
                if _is_open(cache.objects[key[0], key[1]]):
                    self.look_at(key)
            await self.until_next_list()

    async def until_next_list(self) -> None:
        """Sooner where the watch is behind."""
        passed = 0.0
        while passed < self.settings.resync_seconds:
            self.lists.beat()
            await asyncio.sleep(TICK_SECONDS)
            passed += TICK_SECONDS
            if min(passed, self.seconds_late()) >= LATE_LIST_SECONDS:
                return

    async def list_jobs_until_answered(self) -> None:
        """Make good what the watch missed."""
        while True:
            self.lists.beat()
            try:
                # Trials first: a sweep that is seen without them would make them again.
                changed = await relist(self.jobs, self.kube)
                sweeps = await relist(self.sweeps, self.kube)
            except KubeError as error:
                hint = " Is manifests/crd applied?" if isinstance(error, NotFound) else ""
                _log.warning("Jobs and sweeps cannot be listed: %s.%s", error.message, hint)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        for key in changed:
            self.look_at(key)
        for key in sweeps:
            self.look_at(SweepKey(*key))

    def seconds_behind(self) -> float:
        """How long the watch of jobs is behind; it need not be ahead of an API server that is
        away."""
        return min(self.seconds_late(), self.kube.clock() - self.kube.trouble_at)

    def seconds_late(self) -> float:
        """How long the watch of jobs or that of sweeps is behind."""
        return max(self.jobs.lag.seconds(), self.sweeps.lag.seconds())

    def overdue_seconds(self) -> float:
        """How long a replica that led goes on without the right to act."""
        has_right = self.kube.seconds_to_act() > 0 or not self.leading.is_set()
        return 0.0 if has_right else math.inf


def build_checks(operator: Operator, pulses: dict[str, Pulse]) -> tuple[Check, ...]:
    """What must not get stuck."""
    return (
        Check(
            "the watch of pods has been silent for {seconds}",
            operator.reflector.silence,
            health.SILENT_WATCH_SECONDS,
        ),
        Check(
            "the watch of jobs has been behind for {seconds}",
            operator.seconds_behind,
            health.LATE_WATCH_SECONDS,
        ),
        Check(
            "a job has been waiting for {seconds}",
            operator.queue.oldest_seconds,
            health.STUCK_QUEUE_SECONDS,
        ),
        Check(
            "progress has not been asked for since {seconds}",
            pulses["reports"].seconds,
            health.STUCK_LOOP_SECONDS,
        ),
        Check(
            "launchers have not been looked after since {seconds}",
            pulses["launchers"].seconds,
            health.STUCK_LOOP_SECONDS,
        ),
        Check(
            "jobs have not been listed for {seconds}",
            pulses["lists"].seconds,
            health.STUCK_QUEUE_SECONDS,
        ),
        Check("the Lease is lost", operator.overdue_seconds, health.STUCK_LOOP_SECONDS),
    )


def build_leader(kube: Kube, settings: Settings) -> Leader | None:
    """None where no Lease is used. It has requests of its own, which no others hold up."""
    namespace = settings.lease_namespace or own_namespace()
    if not (namespace and settings.lease_name):
        return None
    identity = settings.identity or f"{socket.gethostname()}-{secrets.token_hex(4)}"
    return Leader(Kube(kube.client), namespace, settings.lease_name, identity)


def _is_open(job: dict[str, Any]) -> bool:
    return (job.get("status") or {}).get("phase") not in FINISHED


async def _until_one_ends(
    endless: Sequence[Coroutine[Any, Any, None]], end: Coroutine[Any, Any, None] | None = None
) -> None:
    """Run all until one ends. Raises what it raised, or RuntimeError if it was endless."""
    ending = asyncio.ensure_future(end) if end else None
    tasks = [asyncio.ensure_future(each) for each in endless] + ([ending] if ending else [])
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
    set_up_logging(settings.log_level, settings.log_format)
    # What was imported stays, and most of what comes is no garbage: look for that seldom.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        asyncio.run(_run(settings))
    except LoginError as error:
        _log.error("%s", error)
        return 1
    except LeaseLost as error:
        _log.error("%s; this process ends, and another replica leads.", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
