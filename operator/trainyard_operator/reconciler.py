"""One look at one job: observe, plan, write the status, act."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from trainyard_operator import metrics, story
from trainyard_operator.api import TrainingJob
from trainyard_operator.collector import Collector
from trainyard_operator.decision import Decision
from trainyard_operator.desired import Defaults
from trainyard_operator.executor import execute
from trainyard_operator.jobstore import JobStore
from trainyard_operator.kube import JOBS, Conflict, Kube, KubeError, NotFound
from trainyard_operator.observed import Observed
from trainyard_operator.plan import plan
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.status import JobStatus, parse_status
from trainyard_operator.workqueue import WorkQueue

_log = logging.getLogger(__name__)


@dataclass
class Reconciler:
    """The loop's body; all state it keeps can be lost."""

    kube: Kube
    jobs: JobStore
    reflector: Reflector
    collector: Collector
    queue: WorkQueue[Key]
    defaults: Defaults
    refusals: dict[str, str] = field(default_factory=dict)
    """By job uid: why the API server refused an object of the last decision."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def work(self, key: Key) -> bool:
        """Look at one job; returns whether it went well. Raises nothing."""
        began = time.perf_counter()
        try:
            return await self.reconcile(key)
        except KubeError as error:
            _log.warning("%s/%s: %s", *key, error.message)
        except Exception:
            _log.exception("%s/%s: the operator itself failed.", *key)
        finally:
            metrics.RECONCILE_SECONDS.observe(time.perf_counter() - began)
        metrics.RECONCILE_ERRORS.inc()
        return False

    async def reconcile(self, key: Key) -> bool:
        """Whether nothing has to be tried again. Raises KubeError."""
        raw = self.jobs.get(key)
        if raw is None:
            self.queue.forget(key)
            return True
        status = parse_status(raw.get("status"))
        try:
            job = parse_job(raw)
        except ValidationError as error:
            return await self._refuse(raw, status, error)
        now, uid = self.now(), job.metadata.uid
        observed = Observed(
            pods=self.reflector.snapshot(key, uid),
            report=self.collector.reports.get(uid),
            create_error=self.refusals.get(uid, ""),
        )
        decision = plan(job, status, observed, now, self.defaults)
        if not await self._write_status(raw, decision.status):
            return False
        count_attempt(status, decision.status)
        complete = await self._act(key, job, decision)
        if decision.wake_at:
            delay = (decision.wake_at - now).total_seconds()
            self.queue.add_at(key, self.queue.clock() + max(delay, 0.0))
        return complete

    async def _act(self, key: Key, job: TrainingJob, decision: Decision) -> bool:
        uid = job.metadata.uid
        outcome = await execute(self.kube, job, decision)
        if outcome.refusal != self.refusals.get(uid, "") and decision.actions:
            self.refusals[uid] = outcome.refusal
            self.queue.add(key)
        if not self.refusals.get(uid):
            self.refusals.pop(uid, None)
        return outcome.is_complete

    async def _write_status(self, raw: dict[str, Any], status: JobStatus) -> bool:
        """Whether the status in the API server is now this one; False if it was outdated."""
        patch = merge_patch(raw.get("status") or {}, status.to_dict())
        if not patch:
            return True
        metadata = raw["metadata"]
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]},
            "status": patch,
        }
        try:
            written = await self.kube.patch_status(
                JOBS, metadata["namespace"], metadata["name"], body
            )
        except NotFound:
            return True
        except Conflict:
            return False
        self.jobs.put(written)
        return True

    async def _refuse(self, raw: dict[str, Any], status: JobStatus, error: ValidationError) -> bool:
        """The API server let a spec pass that this operator cannot read."""
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        generation = raw["metadata"]["generation"]
        refused = story.unreadable(status, f"{where}: {first['msg']}.", generation, self.now())
        return await self._write_status(raw, refused)


def parse_job(raw: dict[str, Any]) -> TrainingJob:
    """The typed job, without its status."""
    return TrainingJob.model_validate({key: raw[key] for key in raw if key != "status"})


def merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) from one object to the other; empty if they are equal."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch


def count_attempt(before: JobStatus, after: JobStatus) -> None:
    """Count an attempt that has just failed, by its cause."""
    if after.failure and after.failure != before.failure:
        metrics.ATTEMPTS.labels(cause=after.failure.cause).inc()
