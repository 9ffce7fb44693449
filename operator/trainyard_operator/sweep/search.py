"""Which trials of a sweep may begin now: a pure function of its spec and the trials that exist.

A trial's number says what it tries. grid and list: number = setting * folds + fold, settings in
their order. random: what the seed draws for the number. bayes: see bayes.py. So an operator that
was restarted, or another machine, proposes the same; and only bayes looks at results.
"""

from collections.abc import Iterator, Sequence

from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.space import Settings, combination, draw, size_of
from trainyard_operator.sweep.stopping import first_stops
from trainyard_operator.sweep.trial import Proposal, Trial


def propose(spec: SweepSpec, trials: Sequence[Trial]) -> tuple[Proposal, ...]:
    """Trials that may begin now, in the order of their numbers; none while all slots are taken.

    trials: all whose TrainingJobs exist or existed, in any order.
    """
    free = spec.parallelism - sum(trial.state == "Running" for trial in trials)
    known = {trial.number for trial in trials}
    end = _wanted(spec, trials)
    if free <= 0:
        return ()
    if spec.method == "bayes":
        return tuple(_by_results(spec, trials, end, free))
    numbers = [number for number in range(end) if number not in known][:free]
    return tuple(_proposal(spec, number) for number in numbers)


def first_trials(spec: SweepSpec, count: int) -> tuple[Proposal, ...]:
    """The first `count` of those that are known beforehand; of bayes those drawn at random."""
    if spec.method == "bayes":
        from trainyard_operator.sweep.bayes import STARTUP_TRIALS

        most = min(count, STARTUP_TRIALS, spec.max_trials or 0)
        spec = spec.model_copy(update={"method": "random", "max_trials": most})
    numbers = range(min(count, trials_in_all(spec)))
    return tuple(_proposal(spec, number) for number in numbers)


def trials_in_all(spec: SweepSpec, trials: Sequence[Trial] = ()) -> int:
    """How many trials there will be, as far as it is known: never fewer than have begun, which go
    on where maxTrials was lowered since."""
    return max(_wanted(spec, trials), len(trials))


def _wanted(spec: SweepSpec, trials: Sequence[Trial]) -> int:
    """How many there are to be; the number of each that may begin is below it.

    A random search of a finite space ends when all of it was tried. With failurePolicy.replace a
    trial that fails is made up for, as long as not more than half of all fail.
    """
    bound = spec.max_trials
    if spec.method in {"grid", "list", "folds"}:
        count = settings_in_all(spec) * (spec.folds or 1)
        return count if bound is None else min(count, bound)
    most = bound or 0
    if spec.failure_policy.replace:
        most += min(sum(trial.state == "Failed" for trial in trials), most)
    size = size_of(spec.parameters or {}) if spec.method == "random" else None
    return most if size is None else min(most, size)


def settings_in_all(spec: SweepSpec) -> int:
    """Of grid, list and folds: how many settings, each of which is trained on every fold."""
    if spec.method == "folds":
        return 1
    if spec.method == "list":
        return len(spec.trials or ())
    return size_of(spec.parameters or {}) or 0


def _proposal(spec: SweepSpec, number: int) -> Proposal:
    setting, fold = divmod(number, spec.folds) if spec.folds else (number, None)
    return Proposal(
        number=number,
        name=_name(spec, setting, fold),
        overrides=_settings(spec, setting),
        fold=fold,
    )


def _name(spec: SweepSpec, setting: int, fold: int | None) -> str:
    own = [(spec.trials or ())[setting].name] if spec.method == "list" else []
    return "-".join([*own, *([] if fold is None else [f"fold-{fold}"])])


def _settings(spec: SweepSpec, setting: int) -> Settings:
    if spec.method == "list":
        return dict((spec.trials or ())[setting].overrides)
    if spec.method == "grid":
        return combination(spec.parameters or {}, setting)
    return draw(spec.parameters or {}, spec.seed, setting) if spec.method == "random" else {}


def _by_results(
    spec: SweepSpec, trials: Sequence[Trial], end: int, free: int
) -> Iterator[Proposal]:
    """Of bayes: as many as have room, and whose predecessors are settled."""
    from trainyard_operator.sweep.bayes import is_due, suggest

    found = {trial.number: trial for trial in trials}
    wanted = [number for number in range(end) if number not in found][:free]
    if not wanted:
        return
    stops = first_stops(spec, trials)
    for number in wanted:
        if not is_due(spec, trials, number, stops):
            return
        settings = suggest(spec, found, number, stops)
        found[number] = Trial(number=number, overrides=settings)
        yield Proposal(number=number, overrides=settings)
