"""What to do next for one job: a pure function of its spec, its status, its pods and the time.

    Pending -> Starting -> Running -> Succeeded | Failed
                  ^           |
                  +- Restarting (pods deleted, back-off)      Suspended <-> any of them

An attempt is a gang: one failure ends it for all of its pods, and the next attempt begins when
every pod of the old one is gone. While `status.next_attempt_time` is set, no attempt is live.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from trainyard_operator import story, verdict
from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import FATAL_CAUSES, USER_CAUSES, Cause, now_text
from trainyard_operator.decision import Action, Create, Decision, DeleteJob, DeletePod
from trainyard_operator.desired import (
    Defaults,
    build_pod,
    build_service,
    node_name,
    run_uri,
    spec_hash,
    storage_of,
)
from trainyard_operator.observed import Observed, PodRecord, parse_time
from trainyard_operator.progress import (
    build_display,
    count_nodes,
    lost_steps,
    parse_report,
    with_report,
)
from trainyard_operator.status import FINISHED, FailureStatus, JobStatus, Location, Phase
from trainyard_operator.story import Line, Told

ABANDONED = timedelta(seconds=10)
"""A pod still there this long after its grace period lies on a lost node: it is forced out."""
FAILURE_GRACE_SECONDS = 5
"""Time for logs when a gang has failed: a rank that waits for a dead peer cannot save."""
RETRY = timedelta(seconds=15)
"""How soon an object that the API server refused is tried again."""
MENDABLE = frozenset({Cause.CONFIGURATION, Cause.IMAGE_PULL, Cause.STARTUP_DEADLINE})
"""A job that failed for one of these never trained as written: an edit starts it again."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What one decision is made from."""

    job: TrainingJob
    status: JobStatus
    observed: Observed
    now: datetime
    defaults: Defaults

    @property
    def pods(self) -> tuple[PodRecord, ...]:
        """Pods of the newest attempt."""
        return tuple(p for p in self.observed.pods if p.attempt == self.status.attempt)

    @property
    def is_live(self) -> bool:
        """Whether an attempt is under way."""
        return self.status.attempt > 0 and self.status.next_attempt_time is None

    def update(self, **changes: object) -> "Scene":
        """The same scene with a changed status."""
        return replace(self, status=self.status.model_copy(update=changes))


def plan(
    job: TrainingJob, status: JobStatus, observed: Observed, now: datetime, defaults: Defaults
) -> Decision:
    """The next decision. Settled: the same input gives no action and the same status."""
    scene = Scene(job=job, status=status, observed=observed, now=now, defaults=defaults)
    if job.metadata.deletion_timestamp:
        return Decision(status=status)
    if status.phase in FINISHED:
        return _mend(scene) if _is_mended(scene) else _after_end(scene)
    if refusal := story.refusal(job, storage_of(job, defaults)):
        return _refuse(scene, refusal)
    scene = _with_reports(scene)
    if job.spec.run_policy.suspend:
        return _suspend(scene)
    deadline = _deadline(scene)
    if deadline and now >= deadline:
        return _fail(scene, story.deadline_failure(job, status))
    return _follow(scene) if scene.is_live else _begin(scene)


def _refuse(scene: Scene, refusal: str) -> Decision:
    """The spec cannot run here: say so and wait for an edit."""
    scene = scene.update(phase="Pending", next_attempt_time=now_text(scene.now))
    return _decide(scene, Told(Line.REFUSED, refusal), _delete(scene.observed.pods))


def _begin(scene: Scene) -> Decision:
    """Between attempts: clear the old pods, wait for the back-off, then create the next gang."""
    status, pods = scene.status, scene.observed.pods
    due = parse_time(status.next_attempt_time)
    if pods or (due and scene.now < due):
        phase: Phase = "Restarting" if status.attempt else "Pending"
        wake = _earliest(due if due and due > scene.now else None, _forced_at(pods))
        actions = _delete(pods, FAILURE_GRACE_SECONDS) + _force(pods, scene.now)
        return _decide(scene.update(phase=phase), None, actions, wake)
    scene = scene.update(
        phase="Starting",
        attempt=status.attempt + 1,
        attempt_time=now_text(scene.now),
        next_attempt_time=None,
        start_time=status.start_time or now_text(scene.now),
        **_locations(scene),
    )
    return _decide(scene, Told(Line.STARTING, ""), _create_missing(scene), _forced_at(scene.pods))


def _follow(scene: Scene) -> Decision:
    """An attempt is live: end it, or keep it going."""
    job, status, pods = scene.job, scene.status, scene.pods
    if len(pods) == job.spec.nodes and status.formed_attempt != status.attempt:
        scene = scene.update(formed_attempt=status.attempt)
    formed = scene.status.formed_attempt == status.attempt
    if verdict.is_success(pods, job.spec.nodes):
        return _succeed(scene)
    if pods and any(pod.spec_hash != spec_hash(job.spec) for pod in pods):
        return _restart_edited(scene)
    if failure := verdict.first_failure(job, status.attempt, pods, formed=formed):
        settles = verdict.settles_at(failure, pods)
        if settles and scene.now < settles:
            return _decide(scene, None, (), settles)
        return _end_attempt(scene, failure)
    if all(pod.running or pod.phase == "Succeeded" for pod in pods) and formed:
        return _keep_running(scene)
    return _keep_starting(scene)


def _keep_running(scene: Scene) -> Decision:
    told = None if scene.status.phase == "Running" else Told(Line.RUNNING, "")
    scene = scene.update(phase="Running")
    return _decide(scene, told, _force(scene.pods, scene.now), _forced_at(scene.pods))


def _keep_starting(scene: Scene) -> Decision:
    """Some pods do not run yet: create what is missing, say what they wait for."""
    pods = scene.pods
    problem = verdict.problem(scene.job, pods) or story.rejected(scene.observed.create_error)
    deadline = _startup_deadline(scene, problem)
    if deadline and scene.now >= deadline:
        return _fail(scene, story.startup_failure(scene.job, scene.status.attempt, problem))
    told = Told(Line.WAITING, problem.message, reason=problem.cause) if problem else None
    if scene.status.phase != "Running":
        scene = scene.update(phase="Starting")
    actions = _create_missing(scene) + _force(pods, scene.now)
    retry = scene.now + RETRY if scene.observed.create_error else None
    return _decide(scene, told, actions, _earliest(_forced_at(scene.pods), deadline, retry))


def _end_attempt(scene: Scene, failure: FailureStatus) -> Decision:
    """One pod failed, so the gang does: another attempt, or the end of the job."""
    policy, restarts = scene.job.spec.run_policy, scene.status.restarts
    cause = Cause(failure.cause)
    is_users = cause in USER_CAUSES
    if cause in FATAL_CAUSES or (is_users and restarts.user >= policy.max_restarts):
        return _fail(scene, failure)
    counted = (
        restarts.model_copy(update={"user": restarts.user + 1})
        if is_users
        else restarts.model_copy(update={"infrastructure": restarts.infrastructure + 1})
    )
    wait = _backoff(scene, is_users)
    lost = lost_steps(scene.status)
    scene = scene.update(
        phase="Restarting",
        failure=failure,
        restarts=counted,
        next_attempt_time=now_text(scene.now + wait),
    )
    told = Told(
        Line.RESTARTED,
        story.restart_sentence(failure, counted, policy.max_restarts),
        reason=cause,
        lost_steps=lost,
    )
    return _decide(
        scene, told, _delete(scene.observed.pods, FAILURE_GRACE_SECONDS), scene.now + wait
    )


def _restart_edited(scene: Scene) -> Decision:
    """The spec changed: stop the gang with a checkpoint, go on with new pods."""
    told = Told(Line.EDITED, "The spec was edited; going on with new pods from a checkpoint.")
    scene = scene.update(phase="Restarting", next_attempt_time=now_text(scene.now))
    return _decide(scene, told, _delete(scene.observed.pods))


def _suspend(scene: Scene) -> Decision:
    """Delete the pods, which save a checkpoint, and stay that way."""
    pods = scene.observed.pods
    told = None if scene.status.phase == "Suspended" else Told(Line.SUSPENDED, "")
    due = scene.status.next_attempt_time or now_text(scene.now)
    scene = scene.update(phase="Suspended", next_attempt_time=due)
    actions = _delete(pods) + _force(pods, scene.now)
    return _decide(scene, told, actions, _forced_at(pods))


def _succeed(scene: Scene) -> Decision:
    scene = scene.update(phase="Succeeded", completion_time=now_text(scene.now))
    return _finish(scene, Told(Line.SUCCEEDED, story.success_sentence(scene.status)))


def _fail(scene: Scene, failure: FailureStatus) -> Decision:
    scene = scene.update(phase="Failed", failure=failure, completion_time=now_text(scene.now))
    return _finish(scene, Told(Line.FAILED, failure.message, reason=failure.cause))


def _finish(scene: Scene, told: Told) -> Decision:
    return _decide(scene, told, _clean(scene), _expires_at(scene))


def _after_end(scene: Scene) -> Decision:
    """A finished job: clean up, then expire."""
    expires = _expires_at(scene)
    if expires and scene.now >= expires:
        return Decision(status=scene.status, actions=(DeleteJob(),))
    wake = _earliest(expires, _forced_at(scene.observed.pods))
    actions = _clean(scene) + _force(scene.observed.pods, scene.now)
    return Decision(status=scene.status, actions=actions, wake_at=wake)


def _is_mended(scene: Scene) -> bool:
    failed = scene.status.condition("Failed")
    failure = scene.status.failure
    return (
        failed is not None
        and failed.status == "True"
        and failure is not None
        and failure.cause in MENDABLE
        and (failed.observed_generation or 0) < scene.job.metadata.generation
    )


def _mend(scene: Scene) -> Decision:
    """A job that could not run as written was edited: it starts again."""
    scene = scene.update(
        phase="Pending",
        completion_time=None,
        start_time=None,
        next_attempt_time=now_text(scene.now),
    )
    told = Told(Line.EDITED, "The spec was edited; starting again.")
    return _decide(scene, told, _delete(scene.observed.pods), scene.now)


def _with_reports(scene: Scene) -> Scene:
    """The collected report, then the last one, which the first pod left when it ended."""
    status = with_report(scene.status, scene.observed.report)
    for pod in scene.pods:
        if pod.node_index == 0 and (summary := verdict.summary_of(pod)):
            status = with_report(status, parse_report(summary.report))
    return replace(scene, status=status)


def _decide(
    scene: Scene,
    told: Told | None,
    actions: tuple[Action, ...],
    wake_at: datetime | None = None,
) -> Decision:
    """The decision, with everything in the status that follows from the rest of it."""
    job, pods = scene.job, scene.pods
    nodes = count_nodes(pods if scene.is_live else (), job.spec.nodes)
    scene = scene.update(observed_generation=job.metadata.generation, nodes=nodes)
    status, events = story.tell(job, scene.status, told, scene.now)
    display = build_display(status, story.reason_of(status), pods)
    deadline = None if status.phase in {*FINISHED, "Suspended"} else _deadline(scene)
    return Decision(
        status=status.model_copy(update={"display": display}),
        actions=actions,
        events=events,
        wake_at=_earliest(wake_at, deadline),
    )


def _locations(scene: Scene) -> dict[str, Location | None]:
    uri = run_uri(scene.job, scene.defaults)
    if uri is None or scene.job.spec.recipe is None:
        return {}
    return {"logs": Location(uri=f"{uri}/logs"), "tensor_board": Location(uri=f"{uri}/tensorboard")}


def _create_missing(scene: Scene) -> tuple[Action, ...]:
    job, attempt = scene.job, scene.status.attempt
    present = {pod.name for pod in scene.observed.pods}
    missing = [
        index
        for index in range(job.spec.nodes)
        if node_name(job.metadata.name, index) not in present
    ]
    if not missing:
        return ()
    pods = (Create(build_pod(job, attempt, index, scene.defaults)) for index in missing)
    return (Create(build_service(job)), *pods)


def _delete(pods: tuple[PodRecord, ...], grace_seconds: int | None = None) -> tuple[Action, ...]:
    return tuple(
        DeletePod(name=pod.name, uid=pod.uid, grace_seconds=grace_seconds)
        for pod in pods
        if not pod.is_deleting
    )


def _force(pods: tuple[PodRecord, ...], now: datetime) -> tuple[Action, ...]:
    return tuple(
        DeletePod(name=pod.name, uid=pod.uid, grace_seconds=0)
        for pod in pods
        if pod.deadline is not None and now >= pod.deadline + ABANDONED
    )


def _forced_at(pods: tuple[PodRecord, ...]) -> datetime | None:
    return _earliest(*(pod.deadline + ABANDONED for pod in pods if pod.deadline))


def _clean(scene: Scene) -> tuple[Action, ...]:
    policy = scene.job.spec.run_policy.clean_pod_policy
    if policy == "None":
        return ()
    pods = scene.observed.pods
    return _delete(pods if policy == "All" else tuple(p for p in pods if not p.is_finished))


def _backoff(scene: Scene, is_users: bool) -> timedelta:
    """Doubles with each failure of the program; a fault of the infrastructure waits for nothing
    once the gang ran."""
    backoff = scene.job.spec.run_policy.restart_backoff
    if not is_users:
        ran = scene.status.phase == "Running"
        return timedelta(seconds=0 if ran else backoff.initial_seconds)
    doubled = backoff.initial_seconds * 2 ** min(scene.status.restarts.user, 20)
    return timedelta(seconds=min(doubled, backoff.max_seconds))


def _deadline(scene: Scene) -> datetime | None:
    seconds = scene.job.spec.run_policy.active_deadline_seconds
    start = parse_time(scene.status.start_time)
    return start + timedelta(seconds=seconds) if seconds and start else None


def _startup_deadline(scene: Scene, problem: verdict.Problem | None) -> datetime | None:
    """Counts from when every pod had a node: waiting for a place in a busy cluster is no fault."""
    begun = parse_time(scene.status.attempt_time)
    scheduled = [pod.scheduled for pod in scene.pods]
    if begun is None or (problem and problem.cause is Cause.UNSCHEDULABLE):
        return None
    start = max([begun, *(time for time in scheduled if time)])
    return start + timedelta(seconds=scene.job.spec.run_policy.startup_deadline_seconds)


def _expires_at(scene: Scene) -> datetime | None:
    seconds = scene.job.spec.run_policy.ttl_seconds_after_finished
    ended = parse_time(scene.status.completion_time)
    return ended + timedelta(seconds=seconds) if seconds is not None and ended else None


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time), default=None)
