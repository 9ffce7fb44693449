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

    @property
    def pods(self) -> tuple[PodRecord, ...]:
        """Pods of the newest attempt, the first node's first."""
        pods = (pod for pod in self.observed.pods if pod.attempt == self.status.attempt)
        return tuple(sorted(pods, key=lambda pod: pod.node_index))

    @property
    def strays(self) -> tuple[PodRecord, ...]:
        """Pods of earlier attempts: a cached list may show them only after the next one began."""
        return tuple(pod for pod in self.observed.pods if pod.attempt != self.status.attempt)

    @property
    def is_live(self) -> bool:
        """Whether an attempt is under way."""
        return self.status.attempt > 0 and self.status.next_attempt_time is None

    @property
    def is_formed(self) -> bool:
        """Whether every pod of the newest attempt has been seen."""
        return self.status.attempt > 0 and self.status.formed_attempt == self.status.attempt

    @property
    def is_broken(self) -> bool:
        """Whether the newest attempt ended by a failure, after which no rank can save."""
        failure = self.status.failure
        return (
            failure is not None
            and failure.attempt == self.status.attempt
            and failure.cause != Cause.CHECKPOINTED
        )

    def update(self, **changes: object) -> "Scene":
        """The same scene with a changed status."""
        return replace(self, status=self.status.model_copy(update=changes))
