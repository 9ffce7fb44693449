"""A sweep without training: its trials are curves that are known beforehand, a point a tick."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.search import propose
from trainyard_operator.sweep.stopping import Verdict, judge, last_resort
from trainyard_operator.sweep.trial import Proposal, Trial

Curve = Sequence[float]
"""Objective after each evaluation, one step apart."""


def spec_of(method: str, parameters: dict[str, object], **fields: object) -> SweepSpec:
    """A sweep of some parameters, to minimize."""
    spec = {
        "template": {"spec": {"recipe": "classification"}},
        "method": method,
        "parameters": parameters,
        "objective": {"metric": "val_loss", "goal": "minimize"},
        **fields,
    }
    sweep = {"metadata": {"name": "bench"}, "spec": spec}
    return TrainingSweep.model_validate(sweep).spec


def simulate(spec: SweepSpec, curve_of: Callable[[Proposal], Curve]) -> tuple[list[Trial], int]:
    """All trials of the sweep as they ended, and how many ticks it took with its parallelism."""
    rule = spec.early_stopping
    first = rule.min_steps if rule and rule.method == "asha" else None
    trials: dict[int, Trial] = {}
    curves: dict[int, Curve] = {}
    ticks = 0
    while True:
        for verdict in judge(spec, list(trials.values())):
            trials[verdict.number] = _judged(trials[verdict.number], verdict)
        for proposal in propose(spec, list(trials.values())):
            number, curves[proposal.number] = proposal.number, curve_of(proposal)
            trials[number] = Trial(number=number, overrides=proposal.overrides, pause_at=first)
        running = [trial for trial in trials.values() if trial.state == "Running"]
        if not running:
            last = last_resort(spec, list(trials.values()))
            if last is None:
                return list(trials.values()), ticks
            trials[last.number] = _judged(trials[last.number], last)
            continue
        ticks += 1
        for trial in running:
            trials[trial.number] = _further(trial, curves[trial.number])


def _judged(trial: Trial, verdict: Verdict) -> Trial:
    if verdict.action == "stop":
        return replace(trial, state="Stopped", is_paused=False)
    return replace(trial, state="Running", is_paused=False, pause_at=verdict.pause_at)


def _further(trial: Trial, curve: Curve) -> Trial:
    if trial.is_paused:
        return trial
    step = len(trial.curve) + 1
    points = (*trial.curve, (step, curve[step - 1]))
    value = min(value for _, value in points)
    is_paused = trial.pause_at is not None and trial.pause_at <= step < len(curve)
    state = "Succeeded" if step == len(curve) else "Running"
    return replace(trial, curve=points, value=value, state=state, is_paused=is_paused)  # type: ignore[arg-type]
