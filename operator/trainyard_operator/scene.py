"""What one decision is made from, and the questions it asks of it."""

from dataclasses import dataclass, replace
from datetime import datetime

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Cause
from trainyard_operator.desired import Defaults
from trainyard_operator.observed import Observed, PodRecord
from trainyard_operator.status import JobStatus


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One job at one moment."""

    job: TrainingJob
    status: JobStatus
    observed: Observed
    now: datetime
    defaults: Defaults
    wanted_nodes: int
    """What the spec asks for; `job` says what the newest attempt is to have."""

    @property
    def pods(self) -> tuple[PodRecord, ...]:
        """Pods of the newest attempt, the first node's first; what a launcher said of an earlier
        attempt is no news."""
        pods = (
            self._current(pod)
            for pod in self.observed.pods
            if pod.attempt == self.pods_attempt and not self._is_replacement(pod)
        )
        return tuple(sorted(pods, key=lambda pod: pod.node_index))

    def _is_replacement(self, pod: PodRecord) -> bool:
        """Kubeflow makes a pod that was deleted again, alone; a gang that runs has none that does
        not run yet, so the one before it is gone."""
        is_running = self.job.spec.backend == "kubeflow" and self.status.phase == "Running"
        return is_running and not (pod.running or pod.has_ended)

    def _current(self, pod: PodRecord) -> PodRecord:
        if pod.standby is None or pod.standby.attempt == self.status.attempt:
            return pod
        return replace(pod, standby=None)

    @property
    def pods_attempt(self) -> int:
        """The attempt that the pods of the newest one were created for, and are labelled with."""
        return self.status.pods_attempt or self.status.attempt

    @property
    def is_in_place(self) -> bool:
        """Whether the newest attempt began in the pods of an earlier one."""
        return self.pods_attempt < self.status.attempt

    @property
    def is_ordering(self) -> bool:
        """Whether the newest attempt is to begin in place and not every launcher has agreed."""
        return self.is_live and self.is_in_place and self.status.phase == "Restarting"

    @property
    def strays(self) -> tuple[PodRecord, ...]:
        """Pods of earlier attempts: a cached list may show them only after the next one began."""
        return tuple(pod for pod in self.observed.pods if pod.attempt != self.pods_attempt)

    @property
    def is_live(self) -> bool:
        """Whether an attempt is under way."""
        return self.status.attempt > 0 and self.status.next_attempt_time is None

    @property
    def is_formed(self) -> bool:
        """Whether every pod of the newest attempt has been seen, and has begun it."""
        return self.status.attempt > 0 and self.status.formed_attempt == self.status.attempt

    @property
    def is_broken(self) -> bool:
        """Whether the newest attempt ended by a failure, after which no rank can save, or never
        began in all of its pods."""
        if self.status.phase == "Starting" or (self.is_in_place and not self.is_formed):
            return True
        failure = self.status.failure
        return (
            failure is not None
            and failure.attempt == self.status.attempt
            and failure.cause != Cause.CHECKPOINTED
        )

    def update(self, **changes: object) -> "Scene":
        """The same scene with a changed status."""
        return replace(self, status=self.status.model_copy(update=changes))
