"""One look at one job: observe, plan, write the status, act."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from trainyard_operator import metrics
from trainyard_operator.api import TrainingJob
from trainyard_operator.collector import Collector
from trainyard_operator.decision import Decision, OrderAttempt
from trainyard_operator.desired import Defaults
from trainyard_operator.errors import NotFound
from trainyard_operator.executor import execute
from trainyard_operator.kube import PYTORCHJOBS
from trainyard_operator.launchers import Launchers
from trainyard_operator.logform import ABOUT, About
from trainyard_operator.looker import Looker, first_problem, merge_patch
from trainyard_operator.observed import Observed, PyTorchJobRecord, pytorchjob_record
from trainyard_operator.plan import plan
from trainyard_operator.reflector import Key, Reflector
from trainyard_operator.status import JobStatus, parse_status

MINOR_FIELDS = frozenset({"nodes", "display", "formedAttempt"})
"""Counts of pods. So is that all pods are there: until it is written, one that goes is made
again."""


@dataclass
class Reconciler(Looker[Key]):
    """The loop's body for jobs."""

    reflector: Reflector
    collector: Collector
    launchers: Launchers
    defaults: Defaults

    async def reconcile(self, key: Key) -> bool:
        """Whether nothing has to be tried again. Raises KubeError."""
        raw = self.cache.get(key)
        if raw is None:
            self.forget(key)
            return True
        status = parse_status(raw.get("status"))
        try:
            job = parse_job(raw)
        except ValidationError as error:
            return await self.refuse(key, raw, status, first_problem(error))
        now, uid = self.now(), job.metadata.uid
        observed = Observed(
            pods=tuple(map(self.launchers.seen, self.reflector.snapshot(key, uid))),
            report=self.collector.reports.get(uid),
            create_error=self.refusal(key, uid),
            pytorchjob=await self._pytorchjob(key, job),
        )
        try:
            decision = plan(job, status, observed, now, self.defaults)
        except Exception as error:  # Whoever wrote the job must hear of it, not only the log.
            await self.refuse(key, raw, status, f"spec: the operator failed on it: {error!r}.")
            raise
        patch = merge_patch(raw.get("status") or {}, decision.status.to_dict())
        is_quiet = not (decision.actions or decision.events)
        if self.may_wait(key, patch, MINOR_FIELDS if is_quiet else frozenset()):
            return True
        if not await self.write_status(key, raw, patch):
            return True
        ABOUT.set(About(*key, decision.status.attempt))
        count_attempt(status, decision.status)
        complete = await self._act(key, job, decision)
        self.wake_at(key, decision.wake_at, now)
        return complete

    async def _act(self, key: Key, job: TrainingJob, decision: Decision) -> bool:
        self.tell(job, decision.events)
        outcome = await execute(self.kube, self.launchers, job, decision)
        if any(isinstance(action, OrderAttempt) for action in decision.actions):
            self.queue.add(key)  # Launchers answered: no event of the cluster tells that.
        has_acted = bool(decision.actions)
        self.note_refusal(key, job.metadata.uid, outcome.refusal, has_acted=has_acted)
        return outcome.is_complete

    async def _pytorchjob(self, key: Key, job: TrainingJob) -> PyTorchJobRecord | None:
        """Asked for at each look, as nothing watches it: not every cluster knows the kind."""
        if job.spec.backend != "kubeflow":
            return None
        try:
            return pytorchjob_record(await self.kube.get(PYTORCHJOBS, *key), job.metadata.uid)
        except NotFound:
            return None


def parse_job(raw: dict[str, Any]) -> TrainingJob:
    """The typed job, without its status."""
    return TrainingJob.model_validate({key: raw[key] for key in raw if key != "status"})


def count_attempt(before: JobStatus, after: JobStatus) -> None:
    """Count an attempt that has just failed, by its cause."""
    if after.failure and after.failure != before.failure:
        metrics.ATTEMPTS.labels(cause=after.failure.cause).inc()
