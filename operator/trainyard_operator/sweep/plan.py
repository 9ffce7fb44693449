"""What to do next for one sweep: a pure function of its spec, its status, its trials and the time.

    Pending -> Running -> Succeeded | Failed        Suspended <-> any of them

Which trials there are is what the cluster has: TrainingJobs whose names follow from their numbers,
each with its settings in an annotation. So a trial is made once, whatever an operator was doing
when it died; what it cost is known from its own status. The sweep's status adds only what the
trials cannot tell: when it began, for which spec, and that it has ended.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from trainyard_operator.contract import now_text
from trainyard_operator.deadlines import RETRY, earliest
from trainyard_operator.decision import Create
from trainyard_operator.observed import parse_time
from trainyard_operator.sweep import faults, story
from trainyard_operator.sweep.decision import (
    DeleteSweep,
    HoldTrial,
    ReleaseTrial,
    SweepAction,
    SweepDecision,
)
from trainyard_operator.sweep.desired import build_trial, report_uri, spec_hash
from trainyard_operator.sweep.names import HELD_BY_END, HELD_BY_STOPPING, HELD_BY_SWEEP
from trainyard_operator.sweep.record import TrialRecord
from trainyard_operator.sweep.reporting import is_reported, report_actions
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.search import propose
from trainyard_operator.sweep.status import SWEEP_ENDS
from trainyard_operator.sweep.stopping import Verdict, judge, last_resort
from trainyard_operator.sweep.story import Told
from trainyard_operator.sweep.tally import tallied


def plan_sweep(scene: SweepScene) -> SweepDecision:
    """The next decision. Settled: the same input gives no action and the same status."""
    if scene.sweep.metadata.deletion_timestamp:
        return SweepDecision(status=scene.status)
    if scene.status.phase in SWEEP_ENDS:
        return _after_end(scene)
    if refusal := faults.refusal(scene):
        return _refuse(scene, refusal)
    if scene.status.start_time is None:
        scene = _begun(scene)
    if fault := faults.fatal_fault(scene):
        return _end(scene, "Failed", fault)
    if scene.sweep.spec.run_policy.suspend:
        return _suspend(scene)
    return _advance(scene)


def _refuse(scene: SweepScene, why: str) -> SweepDecision:
    """Until its spec is edited, or its rival is gone."""
    decision = _decide(scene.update(phase=scene.status.phase or "Pending"), Told.refused(why))
    return replace(decision, wake_at=scene.now + RETRY) if scene.rival else decision


def _begun(scene: SweepScene) -> SweepScene:
    return scene.update(
        start_time=now_text(scene.now),
        spec_hash=spec_hash(scene.sweep.spec),
    )


def _suspend(scene: SweepScene) -> SweepDecision:
    """Trials save a checkpoint, and none begins."""
    holds = _hold_all(scene, HELD_BY_SWEEP, "The sweep is suspended.")
    told = None if scene.status.phase == "Suspended" else Told.suspended(scene.resume_by)
    return _decide(scene.update(phase="Suspended"), told, holds)


def _advance(scene: SweepScene) -> SweepDecision:
    """A sweep that is wanted and can go on."""
    released, scene = _go_on(scene)
    verdicts, scene = _judged(scene)
    begins = _begin_trials(scene)
    actions = (*released, *verdicts, *begins)
    if not actions and not _is_at_work(scene):
        last, scene = _last_one(scene)
        if last is None:
            return _end_well(scene)
        actions = (last,)
    told = _progress(scene)
    decision = _decide(scene.update(phase="Running"), told, actions)
    retry = scene.now + RETRY if scene.create_error else None
    wake_at = earliest(decision.wake_at, faults.deadline(scene), retry)
    return replace(decision, wake_at=wake_at)


def _progress(scene: SweepScene) -> Told | None:
    """What there is to say of a sweep that runs."""
    if scene.create_error:
        return Told.waiting(scene.create_error)
    running = scene.status.condition("Running")
    is_told = running is not None and running.reason == "Running"
    is_same = is_told and scene.status.phase == "Running"
    return None if is_same else Told.running(story.outlook(scene))


def _is_at_work(scene: SweepScene) -> bool:
    """A trial that somebody suspended by hand is waited for, too."""
    return bool(scene.active) or any(trial.state == "Running" for trial in scene.trials)


def _go_on(scene: SweepScene) -> tuple[tuple[SweepAction, ...], SweepScene]:
    """Trials that were held with the whole sweep; the scene with them at work."""
    held = {r.job for r in scene.records if r.held_by == HELD_BY_SWEEP and not r.has_ended}
    if not held:
        return (), scene
    actions = [ReleaseTrial(job=r.job, uid=r.uid) for r in scene.records if r.job in held]
    records = tuple(
        replace(r, is_suspended=False, held_by="") if r.job in held else r for r in scene.records
    )
    return tuple(actions), replace(scene, records=records)


def _judged(scene: SweepScene) -> tuple[tuple[SweepAction, ...], SweepScene]:
    """Early stopping's verdicts; the scene as it is once they are carried out.

    A trial that is stopped keeps its place until its pods are gone.
    """
    by_number = {record.number: record for record in scene.records}
    actions: list[SweepAction] = []
    free = scene.sweep.spec.parallelism - len(scene.active)
    for verdict in judge(scene.sweep.spec, scene.trials):
        record = by_number[verdict.number]
        job, uid = record.job, record.uid
        if verdict.action == "stop":
            because = verdict.reason
            actions.append(HoldTrial(job=job, uid=uid, held_by=HELD_BY_STOPPING, because=because))
            by_number[record.number] = replace(
                record, is_suspended=True, held_by=HELD_BY_STOPPING, message=because
            )
        elif free > 0:
            free -= 1
            release, by_number[record.number] = _released(record, verdict)
            actions.append(release)
    if not actions:
        return (), scene
    return tuple(actions), replace(scene, records=tuple(by_number.values()))


def _released(record: TrialRecord, verdict: Verdict) -> tuple[ReleaseTrial, TrialRecord]:
    """A trial that is promoted; its record as it is once it goes on."""
    pause_at = record.pause_at if verdict.pause_at is None else verdict.pause_at
    release = ReleaseTrial(job=record.job, uid=record.uid, pause_at=verdict.pause_at)
    return release, replace(record, is_suspended=False, held_by="", message="", pause_at=pause_at)


def _last_one(scene: SweepScene) -> tuple[ReleaseTrial | None, SweepScene]:
    """Early stopping has stopped them all: the best one goes on."""
    verdict = last_resort(scene.sweep.spec, scene.trials)
    if verdict is None:
        return None, scene
    records = {record.number: record for record in scene.records}
    release, records[verdict.number] = _released(records[verdict.number], verdict)
    return release, replace(scene, records=tuple(records.values()))


def _begin_trials(scene: SweepScene) -> tuple[Create, ...]:
    """As many as there is room for, counting those whose pods are still there."""
    free = scene.sweep.spec.parallelism - len(scene.active)
    proposals = propose(scene.sweep.spec, scene.trials)[: max(free, 0)]
    return tuple(Create(build_trial(scene.sweep, each, scene.defaults)) for each in proposals)


def _end_well(scene: SweepScene) -> SweepDecision:
    """No trial runs and none is to come."""
    if not any(trial.state == "Succeeded" for trial in scene.trials):
        return _end(scene, "Failed", faults.none_succeeded(scene))
    return _end(scene, "Succeeded", Told.succeeded(story.outcome(scene)))


def _end(scene: SweepScene, phase: story.End, told: Told) -> SweepDecision:
    scene = scene.update(phase=phase, completion_time=now_text(scene.now))
    decision = _decide(scene, told, _hold_all(scene, HELD_BY_END, told.message))
    return replace(decision, wake_at=_expiry(scene))


def _after_end(scene: SweepScene) -> SweepDecision:
    """Trials that still ran are held with a checkpoint; then the sweep expires."""
    holds = _hold_all(scene, HELD_BY_END, "The sweep has ended.")
    expires = _expiry(scene)
    decision = replace(_decide(scene, None, holds), wake_at=expires)
    if expires and scene.now >= expires and not scene.active and is_reported(scene):
        return replace(decision, actions=(DeleteSweep(),), wake_at=scene.now + RETRY)
    return decision if not expires or scene.now < expires else replace(decision, wake_at=None)


def _expiry(scene: SweepScene) -> datetime | None:
    seconds = scene.sweep.spec.run_policy.ttl_seconds_after_finished
    ended = parse_time(scene.status.completion_time)
    return ended + timedelta(seconds=seconds) if ended and seconds is not None else None


def _hold_all(scene: SweepScene, held_by: str, because: str) -> tuple[HoldTrial, ...]:
    """Every trial that runs; one that is suspended already stays as it is."""
    return tuple(
        HoldTrial(job=r.job, uid=r.uid, held_by=held_by, because=because)
        for r in sorted(scene.records, key=lambda r: r.number)
        if (r.is_active or r.is_paused) and not r.is_suspended
    )


def _decide(
    scene: SweepScene, told: Told | None, actions: tuple[SweepAction, ...] = ()
) -> SweepDecision:
    """The decision, with everything in the status that follows from the rest of it."""
    scene = scene.update(observed_generation=scene.sweep.metadata.generation)
    before = scene.status
    scene = scene.update(**tallied(scene))
    if scene.report and scene.report.phase == "Succeeded":
        scene = scene.update(report_uri=report_uri(scene.sweep, scene.defaults))
    status, events = story.tell(scene, before, told)
    reports, wake_at = report_actions(scene)
    return SweepDecision(
        status=status, actions=(*actions, *reports), events=events, wake_at=wake_at
    )
