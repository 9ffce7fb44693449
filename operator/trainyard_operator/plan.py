"""What to do next for one job: a pure function of its spec, its status, its pods and the time.

    Pending -> Starting -> Running -> Succeeded | Failed
                  ^           |
                  +- Restarting (pods deleted, back-off)      Suspended <-> any of them

An attempt is a gang: one failure ends it for all of its pods. Where only processes failed, the next
attempt begins at once in the same pods, whose launchers are ordered to; else it begins with new
pods when every pod of the old one is gone. While `status.next_attempt_time` is set, no attempt is
live.

The status is written before the actions are taken, so every action must follow from the status
and the pods alone: a pass that was cut off in between is made good by the next one.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from trainyard_operator import (
    avoidance,
    deadlines,
    elastic,
    evidence,
    gang,
    headway,
    inplace,
    pause,
    story,
    verdict,
)
from trainyard_operator.api import TrainingJob
from trainyard_operator.board import board_name, is_served
from trainyard_operator.contract import FATAL_CAUSES, USER_CAUSES, Cause, now_text
from trainyard_operator.deadlines import RETRY, earliest, forced_at
from trainyard_operator.decision import Action, Decision, DeleteJob
from trainyard_operator.desired import Defaults, run_uri, spec_hash, storage_of
from trainyard_operator.goodput import with_goodput
from trainyard_operator.layout import LOGS_PREFIX, TENSORBOARD_PREFIX
from trainyard_operator.notices import take_notice
from trainyard_operator.observed import Observed, parse_time
from trainyard_operator.progress import build_display, count_nodes, lost_steps
from trainyard_operator.scene import Scene
from trainyard_operator.status import (
    FINISHED,
    BoardLocation,
    FailureStatus,
    Headway,
    JobStatus,
    Location,
    Phase,
)
from trainyard_operator.story import Line, Told

MENDABLE = frozenset({Cause.CONFIGURATION, Cause.IMAGE_PULL, Cause.STARTUP_DEADLINE})
"""A job that failed for one of these never trained as written: an edit starts it again."""


def plan(
    job: TrainingJob, status: JobStatus, observed: Observed, now: datetime, defaults: Defaults
) -> Decision:
    """The next decision. Settled: the same input gives no action and the same status."""
    wanted, job = job.spec.nodes, elastic.resized(job, status)
    scene = Scene(
        job=job,
        status=status,
        observed=observed,
        now=now,
        defaults=defaults,
        wanted_nodes=wanted,
    )
    if job.metadata.deletion_timestamp:
        return Decision(status=status)
    if status.phase in FINISHED:
        return _mend(scene) if _is_mended(scene) else _after_end(scene)
    scene = evidence.with_reports(evidence.with_newest_attempt(scene))
    if scene.is_live and _has_succeeded(scene):
        return _succeed(scene)
    if refusal := story.refusal(job, storage_of(job, defaults)):
        return _refuse(scene, refusal)
    is_paused = pause.paused_at(job, scene.status) is not None
    return _suspend(scene) if job.spec.run_policy.suspend or is_paused else _advance(scene)


def _advance(scene: Scene) -> Decision:
    """A job that is wanted and can run."""
    deadline = deadlines.job_deadline(scene)
    if deadline and scene.now >= deadline:
        return _fail(scene, story.deadline_failure(scene.job, scene.status))
    decision = _follow(scene) if scene.is_live else _begin(scene)
    is_over = decision.status.phase in FINISHED
    return decision if is_over else replace(decision, wake_at=earliest(decision.wake_at, deadline))


def _refuse(scene: Scene, refusal: str) -> Decision:
    """The spec cannot run here: say so and wait for an edit."""
    return _stop(scene, "Pending", Told(Line.REFUSED, refusal))


def _suspend(scene: Scene) -> Decision:
    """Delete the pods, which save a checkpoint, and stay that way."""
    told = None if scene.status.phase == "Suspended" else Told(Line.SUSPENDED, "")
    return _stop(scene, "Suspended", told)


def _stop(scene: Scene, phase: Phase, told: Told | None) -> Decision:
    """No attempt is live until the spec changes."""
    due = scene.status.next_attempt_time or now_text(scene.now)
    scene = scene.update(phase=phase, next_attempt_time=due)
    return _decide(scene, told, gang.clear(scene), forced_at(scene.observed.pods, scene.now))


def _begin(scene: Scene) -> Decision:
    """Between attempts: clear the old pods, wait for the back-off, then create the next gang."""
    status, pods, now = scene.status, scene.observed.pods, scene.now
    due = parse_time(status.next_attempt_time)
    # Later than that is no back-off: whoever wrote it had a wrong clock.
    latest = now + timedelta(seconds=scene.job.spec.run_policy.restart_backoff.max_seconds)
    waits_until = due if due and now < due <= latest else None
    lingers = now + RETRY if scene.observed.pytorchjob else None
    if pods or waits_until or lingers:
        scene = scene.update(phase="Restarting" if status.attempt else "Pending")
        wake_at = earliest(waits_until, forced_at(pods, now), lingers)
        return _decide(scene, None, gang.clear(scene), wake_at)
    scene = scene.update(
        phase="Starting",
        attempt=status.attempt + 1,
        pods_attempt=None,
        attempt_time=now_text(now),
        next_attempt_time=None,
        start_time=status.start_time or now_text(now),
        **_locations(scene),
    )
    wake_at = deadlines.startup_deadline(scene, None)
    return _decide(scene, Told(Line.STARTING, ""), gang.create_missing(scene), wake_at)


def _follow(scene: Scene) -> Decision:
    """An attempt is live: end it, or keep it going."""
    job, pods = scene.job, scene.pods
    if not gang.missing_nodes(scene) and not scene.is_ordering:
        scene = scene.update(formed_attempt=scene.status.attempt)
    if verdict.is_result_stored(pods):
        return _keep_running(scene)
    if {pod.spec_hash for pod in pods} - {spec_hash(job.spec)}:
        return _restart_edited(scene)
    if scene.is_ordering:
        return _await_agreement(scene)
    return _judge(scene)


def _judge(scene: Scene) -> Decision:
    """End an attempt of which something failed, or keep it going."""
    job, pods = scene.job, scene.pods
    # A gang that an attempt began in was whole, whatever a lost status knew of it.
    formed = scene.is_formed or scene.is_in_place
    failure = verdict.first_failure(job, scene.status.attempt, pods, formed=formed)
    if failure:
        cause = Cause(failure.cause)
        in_doubt = headway.is_in_doubt(scene, cause) or pause.is_in_doubt(job, cause)
        settles = verdict.settles_at(failure, pods, awaits_report=in_doubt)
        # Later than that is no window: the node's clock is wrong.
        if settles and scene.now < settles <= scene.now + verdict.SETTLE:
            return _decide(scene, None, gang.tend(scene), settles)
        return _end_attempt(scene, failure)
    is_up = scene.is_formed and all(pod.running or pod.has_ended for pod in pods)
    if is_up or scene.status.phase == "Running":
        return _keep_running(scene)
    return _keep_starting(scene)


def _has_succeeded(scene: Scene) -> bool:
    until = verdict.lingers_until(scene.pods)
    is_late = until is not None and scene.now >= until
    return is_late or verdict.is_success(scene.pods, scene.job.spec.nodes)


def _keep_running(scene: Scene) -> Decision:
    widens, lingers = elastic.widens_at(scene), verdict.lingers_until(scene.pods)
    if widens and scene.now >= widens and scene.status.phase == "Running" and not lingers:
        return _resize(elastic.widen(scene), story.widened(scene.wanted_nodes))
    told = None if scene.status.phase == "Running" else Told(Line.RUNNING, "")
    wake_at = earliest(forced_at(scene.observed.pods, scene.now), lingers, widens)
    scene = elastic.settled(scene).update(phase="Running")
    return _decide(scene, told, gang.tend(scene), wake_at)


def _keep_starting(scene: Scene) -> Decision:
    """Some pods do not run yet: create what is missing, say what they wait for."""
    error = scene.observed.create_error if gang.missing_nodes(scene) else ""
    problem = verdict.problem(scene.job, scene.pods) or story.rejected(error)
    deadline = deadlines.startup_deadline(scene, problem)
    if deadline and scene.now >= deadline:
        return _fail(scene, story.startup_failure(scene.job, scene.status.attempt, problem))
    gives_way = avoidance.gives_way_at(scene, problem)
    if problem and gives_way and scene.now >= gives_way:
        return _stop_insisting(scene, problem)
    narrows = elastic.narrows_at(scene)
    if narrows and scene.now >= narrows:
        narrow = elastic.narrow(scene)
        return _resize(narrow, story.narrowed(scene.job.spec.nodes, narrow.status))
    told = story.waiting(scene.job, problem) if problem else None
    retry = scene.now + RETRY if error else None
    return _decide(
        scene.update(phase="Starting"),
        told,
        gang.create_missing(scene) + gang.tend(scene),
        earliest(forced_at(scene.observed.pods, scene.now), deadline, retry, gives_way, narrows),
    )


def _stop_insisting(scene: Scene, problem: verdict.Problem) -> Decision:
    """No place is free but on nodes that broke attempts: better there than nowhere."""
    told = Told(Line.LAST_RESORT, avoidance.given_up(scene, problem))
    return _make_way(scene.update(avoidance="Preferred"), told, timedelta(0))


def _end_attempt(scene: Scene, failure: FailureStatus) -> Decision:
    """One pod failed, so the gang does: another attempt, or the end of the job."""
    cause = Cause(failure.cause)
    if why := _why_no_more(scene, failure, cause):
        return _fail(scene, failure, why)
    before, restarts = scene.status, scene.status.restarts
    kind = "user" if cause in USER_CAUSES else "infrastructure"
    restarts = restarts.model_copy(update={kind: getattr(restarts, kind) + 1})
    scene = scene.update(node_faults=avoidance.with_fault(before, failure))
    in_place = inplace.is_possible(scene, cause)
    most = scene.job.spec.run_policy.max_restarts
    sentence = story.restart_sentence(failure, restarts, most, in_place=in_place)
    told = Told(
        Line.RESTARTED,
        sentence + avoidance.news(before, scene),
        reason=cause,
        lost_steps=lost_steps(before),
        attempt=failure.attempt,
    )
    wait = deadlines.backoff(scene, cause)
    known = headway.after_restart(scene, cause)
    scene = scene.update(phase="Restarting", failure=failure, restarts=restarts, headway=known)
    return _begin_in_place(scene, told) if in_place else _make_way(scene, told, wait)


def _why_no_more(scene: Scene, failure: FailureStatus, cause: Cause) -> str:
    """Why no attempt follows the one that failed; empty if one does."""
    if cause in FATAL_CAUSES:
        return failure.message
    most = scene.job.spec.run_policy.max_restarts
    if cause in USER_CAUSES and scene.status.restarts.user >= most:
        return story.last_sentence(failure, most)
    if headway.is_spent(scene, cause):
        return story.idle_sentence(failure, scene.status.headway or Headway())
    return ""


def _make_way(scene: Scene, told: Told, wait: timedelta) -> Decision:
    """Delete the gang; new pods follow after the wait."""
    due, actions = scene.now + wait, gang.clear(scene)
    scene = scene.update(phase="Restarting", next_attempt_time=now_text(due))
    return _decide(scene, told, actions, due)


def _resize(scene: Scene, told: Told) -> Decision:
    """The next attempt has another number of nodes."""
    restarts = scene.status.restarts
    scene = scene.update(
        restarts=restarts.model_copy(update={"infrastructure": restarts.infrastructure + 1})
    )
    return _make_way(scene, told, timedelta(0))


def _begin_in_place(scene: Scene, told: Told) -> Decision:
    """The next attempt, in the pods that are there."""
    scene = scene.update(
        pods_attempt=scene.pods_attempt,
        attempt=scene.status.attempt + 1,
        attempt_time=now_text(scene.now),
    )
    return _decide(scene, told, gang.tend(scene), inplace.agreed_by(scene))


def _await_agreement(scene: Scene) -> Decision:
    """Launchers were ordered to begin the newest attempt: it runs when all have agreed.

    A pod that fails before that ends an attempt that was counted already, so nothing is counted
    again.
    """
    if inplace.have_all_agreed(scene):
        return _judge(scene.update(formed_attempt=scene.status.attempt))
    late = inplace.first_late(scene)
    if lost := late or inplace.first_unfit(scene):
        cause = verdict.known_cause(scene.status.failure)
        is_silent = any(pod.silent and pod.name == lost for pod in scene.pods)
        told = story.replaced(lost, is_late=late is not None, is_silent=is_silent)
        return _make_way(scene, told, deadlines.backoff(scene, cause))
    return _decide(scene, None, gang.tend(scene), inplace.agreed_by(scene))


def _restart_edited(scene: Scene) -> Decision:
    """The spec changed: stop the gang with a checkpoint, go on with new pods."""
    told = story.edited(scene.job, scene.status)
    restarts = scene.status.restarts
    scene = scene.update(
        restarts=restarts.model_copy(update={"infrastructure": restarts.infrastructure + 1})
    )
    return _stop(scene, "Restarting", told)


def _succeed(scene: Scene) -> Decision:
    scene = scene.update(phase="Succeeded", completion_time=now_text(scene.now))
    return _finish(scene, Told(Line.SUCCEEDED, story.success_sentence(scene.status)))


def _fail(scene: Scene, failure: FailureStatus, message: str = "") -> Decision:
    scene = scene.update(phase="Failed", failure=failure, completion_time=now_text(scene.now))
    lost = lost_steps(scene.status)
    told = Told(Line.FAILED, message or failure.message, reason=failure.cause, lost_steps=lost)
    return _finish(scene, told)


def _finish(scene: Scene, told: Told) -> Decision:
    wake_at = earliest(deadlines.expiry(scene), forced_at(scene.observed.pods, scene.now))
    return _decide(scene, told, gang.clean(scene), wake_at)


def _after_end(scene: Scene) -> Decision:
    """A finished job: clean up, then expire; not before the last pod has saved its logs."""
    now, pods = scene.now, scene.observed.pods
    status = scene.update(observed_generation=scene.job.metadata.generation).status
    actions, expires = gang.clean(scene), deadlines.expiry(scene)
    is_clean = not actions and all(pod.is_finished or not pod.is_deleting for pod in pods)
    if expires and now >= expires:
        if is_clean:
            return Decision(status=status, actions=(DeleteJob(),), wake_at=now + RETRY)
        expires = None
    return Decision(status=status, actions=actions, wake_at=earliest(expires, forced_at(pods, now)))


def _is_mended(scene: Scene) -> bool:
    failed, failure = scene.status.condition("Failed"), scene.status.failure
    if failed is None or failed.status != "True" or failure is None:
        return False
    is_edited = (failed.observed_generation or 0) < scene.job.metadata.generation
    return is_edited and failure.cause in MENDABLE


def _mend(scene: Scene) -> Decision:
    """A job that could not run as written was edited: it starts again."""
    told = Told(Line.EDITED, "The spec was edited; starting again.")
    scene = scene.update(completion_time=None, start_time=None, next_attempt_time=None)
    return replace(_stop(scene, "Pending", told), wake_at=scene.now)


def _decide(
    scene: Scene, told: Told | None, actions: tuple[Action, ...], wake_at: datetime | None
) -> Decision:
    """The decision, with everything in the status that follows from the rest of it."""
    job, pods = scene.job, scene.pods
    nodes = count_nodes(pods if scene.is_live else (), job.spec.nodes)
    scene = scene.update(observed_generation=job.metadata.generation, nodes=nodes)
    status, events = story.tell(job, scene.status, told, scene.now)
    status = with_goodput(job, status, scene.status, scene.now, told.lost_steps if told else None)
    status, warnings = take_notice(job, status, scene.observed.report, scene.now)
    events += warnings
    display = build_display(status, story.reason_of(status), pods)
    status = status.model_copy(update={"display": display})
    return Decision(status=status, actions=actions, events=events, wake_at=wake_at)


def _locations(scene: Scene) -> dict[str, Location | None]:
    uri = run_uri(scene.job, scene.defaults)
    if uri is None:
        return {}
    logs = Location(uri=f"{uri}/{LOGS_PREFIX}")
    if scene.job.spec.recipe is None:
        return {"logs": logs}
    service = board_name(scene.job.metadata.name) if is_served(scene.job) else None
    board = BoardLocation(uri=f"{uri}/{TENSORBOARD_PREFIX}", service=service)
    return {"logs": logs, "tensor_board": board}
