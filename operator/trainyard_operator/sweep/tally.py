"""What a sweep's trials come to: counts, the best of them, mean and deviation, and a few rows."""

import statistics
from typing import Any

from trainyard_operator.sweep.api import Objective
from trainyard_operator.sweep.desired import setting_text
from trainyard_operator.sweep.record import TrialRecord
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.search import trials_in_all
from trainyard_operator.sweep.status import (
    TRIALS_SHOWN,
    BestTrial,
    Summary,
    SweepDisplay,
    SweepStatus,
    TrialCounts,
    TrialPhase,
    TrialStatus,
)
from trainyard_operator.wording import cut

BEST_SHOWN = 16
"""Of the trials in the status, how many are there for their value; the others are the newest."""
LONGEST_SETTING = 1024
LONGEST_MESSAGE = 512
_PHASES: dict[str, TrialPhase] = {"Succeeded": "Succeeded", "Failed": "Failed"}

Valued = list[tuple[TrialRecord, float]]


def tallied(scene: SweepScene) -> SweepStatus:
    """The status with everything that follows from the trials."""
    spec = scene.sweep.spec
    records = sorted(scene.records, key=lambda record: record.number)
    valued = [(r, v) for r in records if (v := r.value(spec)) is not None]
    ranked = _ranked([pair for pair in valued if pair[0].state != "Failed"], spec.objective)
    counts = TrialCounts(
        total=trials_in_all(spec, scene.trials),
        created=len(records),
        **{
            state.lower(): sum(record.state == state for record in records)
            for state in ("Running", "Succeeded", "Failed", "Stopped")
        },
    )
    best = _best(ranked[0]) if ranked else None
    summary = _summary(valued, spec.objective)
    changes = {
        "counts": counts,
        "trials": [_row(scene, record) for record in _shown(records, ranked)],
        "best": best,
        "summary": summary,
        "display": _display(counts, best, summary),
    }
    return scene.status.model_copy(update=changes)


def _ranked(valued: Valued, objective: Objective) -> Valued:
    """The best first; of equals the one with the lowest number."""
    sign = -1.0 if objective.goal == "maximize" else 1.0
    return sorted(valued, key=lambda pair: (sign * pair[1], pair[0].number))


def _best(pair: tuple[TrialRecord, float]) -> BestTrial:
    record, value = pair
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


def _summary(valued: Valued, objective: Objective) -> Summary | None:
    values = [value for record, value in valued if record.state == "Succeeded"]
    if not values:
        return None
    return Summary(
        metric=objective.metric,
        mean=_rounded(statistics.fmean(values)),
        std=_rounded(statistics.stdev(values)) if len(values) > 1 else None,
        trials=len(values),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _shown(records: list[TrialRecord], ranked: Valued) -> list[TrialRecord]:
    """At most TRIALS_SHOWN, by number."""
    if len(records) <= TRIALS_SHOWN:
        return records
    kept = {record.number for record, _ in ranked[:BEST_SHOWN]}
    newest = [record.number for record in records if record.number not in kept]
    kept |= set(newest[-(TRIALS_SHOWN - len(kept)) :])
    return [record for record in records if record.number in kept]


def _row(scene: SweepScene, record: TrialRecord) -> TrialStatus:
    return TrialStatus(
        number=record.number,
        name=cut(record.name, 253),
        job=record.job,
        overrides=_setting(record),
        fold=record.fold,
        phase=_phase(record),
        value=record.value(scene.sweep.spec),
        message=cut(record.message, LONGEST_MESSAGE) or None,
    )


def _phase(record: TrialRecord) -> TrialPhase:
    if record.state == "Stopped":
        return "Stopped"
    if record.state == "Running" and record.is_suspended:
        return "Suspended"
    is_at_work = record.phase in {"Running", "Restarting"}
    return _PHASES.get(record.state, "Running" if is_at_work else "Pending")


def _setting(record: TrialRecord) -> dict[str, Any] | None:
    is_short = len(setting_text(record.overrides)) <= LONGEST_SETTING
    return record.overrides if is_short and record.overrides else None


def _display(counts: TrialCounts, best: BestTrial | None, summary: Summary | None) -> SweepDisplay:
    done = counts.succeeded + counts.failed + counts.stopped
    spread = f" ± {summary.std:.3g}" if summary and summary.std is not None else ""
    return SweepDisplay(
        trials=f"{done}/{counts.total}",
        best=f"{best.value:.4g} ({best.job})" if best else "",
        summary=f"{summary.mean:.4g}{spread}" if summary else "",
    )
