"""What the operator, or `trainyard run`, knows of a sweep: what its report begins with."""

from collections.abc import Iterable

from trainyard_operator.sweep.api import TrainingSweep
from trainyard_operator.sweep.effects import SEED_KEYS
from trainyard_operator.sweep.record import TrialRecord
from trainyard_operator.sweep.search import trials_in_all
from trainyard_operator.sweep.table import ReportedTrial, SweepTable


def build_table(
    sweep: TrainingSweep, records: Iterable[TrialRecord], *, is_final: bool
) -> SweepTable:
    """is_final: whether no trial is to come or to change."""
    spec, meta = sweep.spec, sweep.metadata
    ordered = sorted(records, key=lambda record: record.number)
    trials = tuple(
        ReportedTrial(
            number=record.number,
            name=record.name,
            job=record.job,
            uid=record.uid,
            state=record.shown,
            overrides=record.overrides,
            fold=record.fold,
            value=record.value(spec),
            message=record.message,
        )
        for record in ordered
    )
    return SweepTable(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        method=spec.method,
        metric=spec.objective.metric,
        goal=spec.objective.goal,
        folds=None if spec.fold_parameter in SEED_KEYS else spec.folds,
        is_final=is_final,
        total=trials_in_all(spec, [record.as_trial(spec) for record in ordered]),
        trials=trials,
    )
