"""Whether a job gets anywhere: restarts that bring no new step must not go on for ever.

A step is new if no attempt before took it, or if a checkpoint holds it that none held before. What
never reports a step, a plain program, cannot be judged by steps: maxRestarts alone bounds it.
"""

from trainyard_operator.contract import USER_CAUSES, Cause
from trainyard_operator.scene import Scene
from trainyard_operator.status import Headway, JobStatus, Progress

PATIENCE = 3
"""Restarts in a row without a new step before the job ends."""

_COUNTED = USER_CAUSES | {Cause.PEER_LOST}
"""Other causes are somebody else's doing, which may end by itself: storage that is away, nodes
that are lost, pods that are evicted, preempted or deleted."""


def has_moved(status: JobStatus) -> bool:
    """Whether the newest attempt took a step, or saved one, that is new. What the attempt before
    it saved after its last report shows in where this one went on from."""
    known, progress = status.headway or Headway(), status.progress
    if _saved(status) > known.saved_step:
        return True
    if progress is None or progress.attempt != status.attempt or progress.step is None:
        return False
    resumed = progress.resumed_step or 0
    went_on_later = status.headway is not None and resumed > known.saved_step
    return went_on_later or progress.step > max(known.step, resumed)


def is_in_doubt(scene: Scene, cause: Cause) -> bool:
    """Whether a last report, on its way, may tell of a new step: back-off, restarts in place and
    the end of the job depend on it. An operator that has just begun to lead knows old ones only."""
    return cause in _COUNTED and _is_judged(scene) and not has_moved(scene.status)


def is_spent(scene: Scene, cause: Cause) -> bool:
    """Whether the newest attempt, which ended by this cause, had better be the last."""
    status = scene.status
    if cause not in _COUNTED or not _is_judged(scene) or has_moved(status):
        return False
    is_idle = status.headway is not None and status.headway.idle_restarts >= PATIENCE
    return is_idle and not _is_before_in_doubt(status)


def after_restart(scene: Scene, cause: Cause) -> Headway | None:
    """The headway once the newest attempt, which ended by this cause, is followed by another."""
    status, known = scene.status, scene.status.headway or Headway()
    if not _is_judged(scene):
        return status.headway
    since = 0 if has_moved(status) else known.idle_restarts
    progress = status.progress or Progress()
    return Headway(
        step=max(known.step, progress.step or 0),
        saved_step=max(known.saved_step, _saved(status), progress.resumed_step or 0),
        idle_restarts=since + (cause in _COUNTED),
    )


def _is_judged(scene: Scene) -> bool:
    progress = scene.status.progress
    reports = progress is not None and progress.step is not None
    return scene.job.spec.recipe is not None or reports


def _is_before_in_doubt(status: JobStatus) -> bool:
    """Whether the newest attempt ended unheard, so that nobody knows yet what the one before it
    saved after its last report."""
    return status.progress is not None and status.progress.attempt == status.attempt - 1


def _saved(status: JobStatus) -> int:
    return status.checkpoints.latest.step if status.checkpoints.latest else 0
