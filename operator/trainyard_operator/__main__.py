"""`python -m trainyard_operator`: connect, start the loops, end when one of them ends."""

import asyncio
import logging
import os
import signal
import sys
from typing import Any

from trainyard_operator import metrics
from trainyard_operator.collector import Collector
from trainyard_operator.handlers import build_registry, watch_jobs
from trainyard_operator.health import Health
from trainyard_operator.jobstore import JobStore, key_of
from trainyard_operator.kube import connect
from trainyard_operator.reconciler import Reconciler
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.settings import Settings, SettingsError, from_environ
from trainyard_operator.workqueue import WorkQueue

COUNT_SECONDS = 10.0
_log = logging.getLogger("trainyard_operator")


async def run(settings: Settings) -> None:
    """Run until a signal comes or a loop ends; the loops themselves never do."""
    loop = asyncio.get_running_loop()
    kube = await connect()
    queue: WorkQueue[Key] = WorkQueue(clock=loop.time)
    jobs = JobStore()
    reflector = Reflector(kube, settings.namespace, on_change=queue.add)
    collector = Collector(jobs, reflector, settings, on_report=queue.add)
    reconciler = Reconciler(kube, jobs, reflector, collector, queue, settings.defaults)

    def job_changed(type_: str, job: dict[str, Any]) -> None:
        if type_ == "DELETED":
            jobs.remove(job)
        else:
            jobs.put(job)
        queue.add(key_of(job))

    health = Health(
        is_synced=reflector.synced.is_set,
        watch_age=lambda: loop.time() - reflector.last_heard,
        oldest_wait=lambda: loop.time() - min(queue.waiting.values(), default=loop.time()),
    )
    server = await health.serve(settings.health_port) if settings.health_port else None
    loops = [
        reflector.run(),
        collector.run(),
        _count_jobs(jobs),
        watch_jobs(build_registry(job_changed), settings.namespace),
        *(_work(reflector, queue, reconciler) for _ in range(settings.workers)),
    ]
    try:
        await _until_one_ends(loops)
    finally:
        if server:
            await server.cleanup()
        await kube.close()


async def _work(reflector: Reflector, queue: WorkQueue[Key], reconciler: Reconciler) -> None:
    """Nothing is decided before the pods are known."""
    await reflector.synced.wait()
    await queue.run_worker(reconciler.work)


async def _count_jobs(jobs: JobStore) -> None:
    while True:
        metrics.JOBS.clear()
        for phase, count in jobs.phases().items():
            metrics.JOBS.labels(phase=phase).set(count)
        await asyncio.sleep(COUNT_SECONDS)


async def _until_one_ends(loops: list[Any]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [asyncio.ensure_future(each) for each in (*loops, stop.wait())]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
    if not stop.is_set():
        raise RuntimeError("a loop of the operator ended")


def main() -> int:
    """Returns the exit code."""
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    try:
        settings = from_environ(os.environ)
    except SettingsError as error:
        _log.error("%s", error)
        return 2
    asyncio.run(run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
