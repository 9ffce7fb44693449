"""A job that spec.checkpoint.pauseAtStep has brought to rest.

Its ranks save and end by themselves, at the same step; to the planner that is a suspension. What
tells is the status alone: an evaluation at or after the step, which the last report brings.
"""

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Cause
from trainyard_operator.status import JobStatus


def paused_at(job: TrainingJob, status: JobStatus) -> int | None:
    """Step of the evaluation that the job rests at; None where nothing holds it.

    Never the last step, after which a run has only its end before it.
    """
    at, progress = job.spec.checkpoint.pause_at_step, status.progress
    if at is None or job.spec.recipe is None or progress is None or not progress.curve:
        return None
    step = int(progress.curve[-1][0])
    return step if at <= step < (progress.steps or step + 1) else None


def is_in_doubt(job: TrainingJob, cause: Cause) -> bool:
    """Whether pods that ended with a checkpoint may have paused, as the first pod's last report
    will tell."""
    return job.spec.checkpoint.pause_at_step is not None and cause is Cause.CHECKPOINTED
