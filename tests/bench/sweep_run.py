"""A sweep without training: its trials are curves that are known beforehand, a point a tick."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.search import propose
from trainyard_operator.sweep.stopping import judge
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
    trials: dict[int, Trial] = {}
    curves: dict[int, Curve] = {}
    ticks = 0
    while True:
        for verdict in judge(spec, list(trials.values())):
            state = "Stopped" if verdict.action == "stop" else "Running"
            trials[verdict.number] = replace(trials[verdict.number], state=state)  # type: ignore[arg-type]
        for proposal in propose(spec, list(trials.values())):
            curves[proposal.number] = curve_of(proposal)
            trials[proposal.number] = Trial(number=proposal.number, overrides=proposal.overrides)
        running = [trial for trial in trials.values() if trial.state == "Running"]
        if not running:
            return list(trials.values()), ticks
        ticks += 1
        for trial in running:
            trials[trial.number] = _further(trial, curves[trial.number])


def _further(trial: Trial, curve: Curve) -> Trial:
    step = len(trial.curve) + 1
    points = (*trial.curve, (step, curve[step - 1]))
    value = min(value for _, value in points)
    state = "Succeeded" if step == len(curve) else "Running"
    return replace(trial, curve=points, value=value, state=state)  # type: ignore[arg-type]
