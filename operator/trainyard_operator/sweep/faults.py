"""What keeps a sweep from going on: for now, or for good. Each is a sentence with a remedy."""

import difflib
from datetime import datetime, timedelta

from trainyard_operator.observed import parse_time
from trainyard_operator.sweep.desired import spec_hash, storage_of
from trainyard_operator.sweep.names import trials_text
from trainyard_operator.sweep.record import TrialRecord
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.story import Told
from trainyard_operator.wording import cut, ended

KEEP_BEST = "spec.checkpoint.keepBest.metric"
"""Where a trainer finds fault with the objective, which stands there by the sweep's doing."""
_OBJECTIVE = "spec.objective.metric"
FREE = (
    "Free to change are parallelism, maxTrials, failurePolicy, runPolicy, and the template's "
    "resources, scheduling, runPolicy, logs, tensorBoard and template."
)
MIXED = (
    "was changed in a way that would mix results of two kinds; change it back, or create "
    f"another TrainingSweep. {FREE}"
)


def refusal(scene: SweepScene) -> str:
    """Why no trial begins until the spec is edited; empty if they may."""
    sweep, status = scene.sweep, scene.status
    job = sweep.spec.template.spec
    if job.recipe and storage_of(sweep, scene.defaults) is None:
        return (
            "spec.template.spec.storage: a recipe needs somewhere for its checkpoints; set "
            "storage.uri, such as s3://bucket/prefix."
        )
    if scene.rival:
        return within("spec.template.spec.storage.uri", scene.rival, "each sweep")
    if status.spec_hash and status.spec_hash != spec_hash(sweep.spec):
        return f"spec: {MIXED}"
    return ""


def within(field: str, rival: str, what: str) -> str:
    """What is said of storage that lies within a sweep's. what: is to be given another prefix."""
    return (
        f"{field}: lies within the storage of TrainingSweep '{rival}'; give {what} a prefix "
        "outside of the other's."
    )


def fatal_fault(scene: SweepScene) -> Told | None:
    """Why the sweep ends at once; None if it does not."""
    due = deadline(scene)
    if due and scene.now >= due:
        seconds = scene.sweep.spec.run_policy.active_deadline_seconds
        return Told.failed(
            "DeadlineExceeded",
            f"The sweep took longer than runPolicy.activeDeadlineSeconds ({seconds} s).",
        )
    return _misconfigured(scene) or _unreported(scene) or _too_many_failures(scene)


def deadline(scene: SweepScene) -> datetime | None:
    """When the sweep runs out of its own time."""
    seconds = scene.sweep.spec.run_policy.active_deadline_seconds
    began = parse_time(scene.status.start_time)
    return began + timedelta(seconds=seconds) if seconds and began else None


def none_succeeded(scene: SweepScene) -> Told:
    """Every trial failed, or was stopped."""
    failed = _by_number(scene, "Failed")
    if not failed:
        return Told.failed("NoTrialSucceeded", "No trial ran to its end.")
    why = f"all of them failed; {failed[0].job} first: {failed[0].message}"
    return Told.failed("NoTrialSucceeded", ended(f"No trial succeeded: {cut(why, 900)}"))


def _misconfigured(scene: SweepScene) -> Told | None:
    """A trial cannot run as written, and none could so far: the others would end the same way."""
    found = [r for r in sorted(scene.records, key=lambda r: r.number) if r.is_misconfigured]
    if told := _missed(scene, found):
        return told
    if not found or any(record.metrics or record.phase == "Succeeded" for record in scene.records):
        return None
    message = f"Trial {found[0].job} cannot run as written: {found[0].message}"
    return Told.failed("ConfigurationError", ended(message))


def _missed(scene: SweepScene, misconfigured: list[TrialRecord]) -> Told | None:
    """A trainer missed the objective among what it evaluated, perhaps epochs after it began."""
    spec = scene.sweep.spec
    found = [record.message for record in misconfigured if record.message.startswith(KEEP_BEST)]
    if not found or any(record.value(spec) is not None for record in scene.records):
        return None
    if spec.template.spec.checkpoint.keep_best:
        return Told.failed("ConfigurationError", f"spec.template.{found[0]}")
    return Told.failed("ObjectiveNotReported", found[0].replace(KEEP_BEST, _OBJECTIVE, 1))


def _unreported(scene: SweepScene) -> Told | None:
    """Trials succeeded, but none has the objective."""
    spec, done = scene.sweep.spec, _by_number(scene, "Succeeded")
    if not done or any(record.value(spec) is not None for record in scene.records):
        return None
    wanted = spec.objective.metric
    names = sorted({name for record in done for name in record.metrics})
    if not names:
        return Told.failed(
            "ObjectiveNotReported",
            f"{_OBJECTIVE}: no trial reports '{wanted}', nor any other metric; have the program "
            "report it (docs/programs.md).",
        )
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f"did you mean '{near[0]}'? They" if near else "they"
    known = cut(", ".join(f"'{name}'" for name in names), 600)
    return Told.failed(
        "ObjectiveNotReported",
        f"{_OBJECTIVE}: no trial reports '{wanted}'; {hint} report {known}.",
    )


def _too_many_failures(scene: SweepScene) -> Told | None:
    most, failed = scene.sweep.spec.failure_policy.max_failed_trials, _by_number(scene, "Failed")
    if most is None or len(failed) <= most:
        return None
    newest = failed[-1]
    return Told.failed(
        "TooManyFailedTrials",
        f"{trials_text(len(failed))} failed, more than failurePolicy.maxFailedTrials ({most}); "
        f"{newest.job}: {ended(cut(newest.message, 900))}",
    )


def _by_number(scene: SweepScene, state: str) -> list[TrialRecord]:
    return sorted((r for r in scene.records if r.state == state), key=lambda r: r.number)
