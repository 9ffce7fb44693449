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
from trainyard_operator.decision import Decision, OrderAttempt
from trainyard_operator.desired import Defaults
from trainyard_operator.errors import Conflict, KubeError, NotFound
from trainyard_operator.eventposter import EventPoster, build_event
from trainyard_operator.executor import execute
from trainyard_operator.jobstore import JobStore
from trainyard_operator.kube import JOBS, PYTORCHJOBS, Kube
from trainyard_operator.launchers import Launchers
from trainyard_operator.logform import ABOUT, About
from trainyard_operator.observed import Observed, PyTorchJobRecord, pytorchjob_record
from trainyard_operator.plan import plan
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.status import JobStatus, parse_status
from trainyard_operator.workqueue import WorkQueue

MINOR_SECONDS = 3.0
"""How long a count of pods may be out of date in the status: most are followed by the next one. So
may be that all pods are there; until it is written, one that goes is made again."""
MINOR_FIELDS = frozenset({"nodes", "display", "formedAttempt"})
SHORTEST_WAIT_SECONDS = 0.1
"""A plan that wants to look again at once still lets others go first."""
_log = logging.getLogger(__name__)


@dataclass
class Reconciler:
    """The loop's body; all state it keeps can be lost."""

    kube: Kube
    jobs: JobStore
    reflector: Reflector
    collector: Collector
    launchers: Launchers
    queue: WorkQueue[Key]
    poster: EventPoster
    defaults: Defaults
    refusals: dict[Key, tuple[str, str]] = field(default_factory=dict)
    """The job's uid, and why the API server refused an object of the last decision."""
    minor: dict[Key, float] = field(default_factory=dict)
    """When counts that have changed are written at the latest."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def work(self, key: Key) -> bool:
        """Look at one job; returns whether it went well. Raises nothing."""
        began = time.perf_counter()
        about = ABOUT.set(About(*key))
        try:
            return await self.reconcile(key)
        except KubeError as error:
            _log.warning("%s/%s: %s", *key, error.message)
        except Exception:
            _log.exception("%s/%s: the operator itself failed.", *key)
        finally:
            ABOUT.reset(about)
            metrics.RECONCILE_SECONDS.observe(time.perf_counter() - began)
        metrics.RECONCILE_ERRORS.inc()
        return False

    async def reconcile(self, key: Key) -> bool:
        """Whether nothing has to be tried again. Raises KubeError."""
        raw = self.jobs.get(key)
        if raw is None:
            self._forget(key)
            return True
        status = parse_status(raw.get("status"))
        try:
            job = parse_job(raw)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return await self._refuse(key, raw, status, f"{where}: {first['msg']}.")
        now, uid = self.now(), job.metadata.uid
        observed = Observed(
            pods=tuple(map(self.launchers.seen, self.reflector.snapshot(key, uid))),
            report=self.collector.reports.get(uid),
            create_error=self._refusal(key, uid),
            pytorchjob=await self._pytorchjob(key, job),
        )
        try:
            decision = plan(job, status, observed, now, self.defaults)
        except Exception as error:  # Whoever wrote the job must hear of it, not only the log.
            await self._refuse(key, raw, status, f"the operator failed on it: {error!r}.")
            raise
        if self._may_wait(key, raw, decision):
            return True
        if not await self._write_status(key, raw, decision.status):
            return True
        ABOUT.set(About(*key, decision.status.attempt))
        count_attempt(status, decision.status)
        complete = await self._act(key, job, decision)
        if decision.wake_at:
            delay = (decision.wake_at - now).total_seconds()
            self.queue.add_at(key, self.queue.clock() + max(delay, SHORTEST_WAIT_SECONDS))
        return complete

    async def _act(self, key: Key, job: TrainingJob, decision: Decision) -> bool:
        for event in decision.events:
            self.poster.add(build_event(job, event, self.now()))
        outcome = await execute(self.kube, self.launchers, job, decision)
        if any(isinstance(action, OrderAttempt) for action in decision.actions):
            self.queue.add(key)  # Launchers answered: no event of the cluster tells that.
        before = self._refusal(key, job.metadata.uid)
        if outcome.refusal:
            self.refusals[key] = (job.metadata.uid, outcome.refusal)
            if not before:
                self.queue.add(key)  # Tell it at once; the next time is the plan's to choose.
        elif decision.actions:
            self.refusals.pop(key, None)
        return outcome.is_complete

    async def _pytorchjob(self, key: Key, job: TrainingJob) -> PyTorchJobRecord | None:
        """Asked for at each look, as nothing watches it: not every cluster knows the kind."""
        if job.spec.backend != "kubeflow":
            return None
        try:
            return pytorchjob_record(await self.kube.get(PYTORCHJOBS, *key), job.metadata.uid)
        except NotFound:
            return None

    def _refusal(self, key: Key, uid: str) -> str:
        owner, message = self.refusals.get(key, ("", ""))
        return message if owner == uid else ""

    def _may_wait(self, key: Key, raw: dict[str, Any], decision: Decision) -> bool:
        """Whether nothing but counts has changed, which the next look may write as well."""
        patch = merge_patch(raw.get("status") or {}, decision.status.to_dict())
        is_minor = bool(patch) and patch.keys() <= MINOR_FIELDS
        if not is_minor or decision.actions or decision.events:
            self.minor.pop(key, None)
            return False
        due = self.minor.setdefault(key, self.queue.clock() + MINOR_SECONDS)
        if self.queue.clock() >= due:
            del self.minor[key]
            return False
        self.queue.add_at(key, due)
        return True

    def _forget(self, key: Key) -> None:
        """The job is gone."""
        self.minor.pop(key, None)
        self.queue.forget(key)
        self.refusals.pop(key, None)

    async def _write_status(self, key: Key, raw: dict[str, Any], status: JobStatus) -> bool:
        """Whether the API server's status is now this one; nothing may be done where it is not.

        A conflict is no failure: somebody else wrote, and the newest job is looked at at once.
        """
        patch = merge_patch(raw.get("status") or {}, status.to_dict())
        if not patch:
            return True
        metadata = raw["metadata"]
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]},
            "status": patch,
        }
        try:
            written = await self.kube.patch_status(JOBS, *key, body)
            if self.jobs.get(key):  # Else it was deleted in the meantime.
                self.jobs.put(written)
        except NotFound:
            self.jobs.remove(raw)
            self._forget(key)
            return False
        except Conflict:
            self.jobs.put(await self.kube.get(JOBS, *key))
            self.queue.add(key)
            return False
        return True

    async def _refuse(self, key: Key, raw: dict[str, Any], status: JobStatus, message: str) -> bool:
        """The API server let a spec pass that this operator cannot use."""
        generation = raw["metadata"]["generation"]
        refused = story.unreadable(status, message, generation, self.now())
        await self._write_status(key, raw, refused)
        return True


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
