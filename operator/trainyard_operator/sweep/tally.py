"""What a sweep's trials come to: counts, the best of them, mean and deviation, and a few rows."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.desired import setting_text
from trainyard_operator.sweep.effects import SEED_KEYS, mean_and_std
from trainyard_operator.sweep.ranking import ranked, succeeded
from trainyard_operator.sweep.record import TrialRecord
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.search import trials_in_all
from trainyard_operator.sweep.space import size_of
from trainyard_operator.sweep.status import (
    TRIALS_SHOWN,
    BestTrial,
    Summary,
    SweepDisplay,
    TrialCounts,
    TrialStatus,
)
from trainyard_operator.sweep.trial import Trial
from trainyard_operator.wording import cut, figure

BEST_SHOWN = 16
"""Of the trials in the status, how many are there for their value; the others are the newest."""
LONGEST_SETTING = 1024
LONGEST_MESSAGE = 512

Valued = list[tuple[Trial, float]]


def tallied(scene: SweepScene) -> dict[str, Any]:
    """Fields of the status: everything in it that follows from the trials."""
    records = {record.number: record for record in scene.records}
    order = ranked(scene.trials, scene.sweep.spec.objective.goal)
    counts = _counts(scene)
    best = _best(records[order[0][0].number], order[0][1]) if order else None
    summary = _summary(scene)
    return {
        "counts": counts,
        "trials": [_row(records, trial) for trial in _shown(scene.trials, order)],
        "best": best,
        "summary": summary,
        "display": _display(counts, best, summary),
    }


def _counts(scene: SweepScene) -> TrialCounts:
    found = Counter(trial.state for trial in scene.trials)
    return TrialCounts(
        total=trials_in_all(scene.sweep.spec, scene.trials),
        created=len(scene.trials),
        running=found["Running"],
        succeeded=found["Succeeded"],
        failed=found["Failed"],
        stopped=found["Stopped"],
    )


def _best(record: TrialRecord, value: float) -> BestTrial:
    is_chosen = record.best is not None and record.best[1] == value
    return BestTrial(
        number=record.number,
        name=record.name,
        job=record.job,
        value=value,
        overrides=_setting(record),
        fold=record.fold,
        checkpoint=record.checkpoint if is_chosen else None,
    )


def _summary(scene: SweepScene) -> Summary | None:
    values = [value for _, value in succeeded(scene.trials)]
    if not values or not has_one_setting(scene.sweep.spec):
        return None
    metric = scene.sweep.spec.objective.metric
    spread = mean_and_std(metric, values)
    return Summary(
        metric=metric,
        mean=_rounded(spread.mean),
        std=None if spread.std is None else _rounded(spread.std),
        trials=spread.count,
    )


def has_one_setting(spec: SweepSpec) -> bool:
    """Whether its trials repeat one setting on folds or with seeds; a mean over others says
    nothing."""
    if spec.method == "list":
        settings = [
            {key: value for key, value in one.overrides.items() if key not in SEED_KEYS}
            for one in spec.trials or ()
        ]
        return all(setting == settings[0] for setting in settings)
    others = {key: one for key, one in (spec.parameters or {}).items() if key not in SEED_KEYS}
    return size_of(others) == 1


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _shown(trials: tuple[Trial, ...], order: Valued) -> list[Trial]:
    """At most TRIALS_SHOWN, by number."""
    kept = {trial.number for trial, _ in order[:BEST_SHOWN]}
    newest = [trial.number for trial in trials if trial.number not in kept]
    kept |= set(newest[-(TRIALS_SHOWN - len(kept)) :])
    return [trial for trial in trials if trial.number in kept]


def _row(records: Mapping[int, TrialRecord], trial: Trial) -> TrialStatus:
    record = records[trial.number]
    return TrialStatus(
        number=record.number,
        name=cut(record.name, 253),
        job=record.job,
        overrides=_setting(record),
        fold=record.fold,
        phase=record.shown,
        value=trial.value,
        message=cut(record.message, LONGEST_MESSAGE) or None,
    )


def _setting(record: TrialRecord) -> dict[str, Any] | None:
    is_short = len(setting_text(record.overrides)) <= LONGEST_SETTING
    return record.overrides if is_short and record.overrides else None


def _display(counts: TrialCounts, best: BestTrial | None, summary: Summary | None) -> SweepDisplay:
    done = counts.succeeded + counts.failed + counts.stopped
    spread = f" ± {summary.std:.3g}" if summary and summary.std is not None else ""
    return SweepDisplay(
        trials=f"{done}/{counts.total}",
        best=f"{figure(best.value)} ({best.job})" if best else "",
        summary=f"{figure(summary.mean)}{spread}" if summary else "",
    )
