"""Whole searches with asha: trials that pause at their rungs, as fast as chance has it."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from core_sweeps import make_sweep

from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.search import propose
from trainyard_operator.sweep.stopping import Verdict, judge, last_resort
from trainyard_operator.sweep.trial import Trial

STEPS, RUNG = 9, 1
LR = {"training.lr": {"distribution": "uniform", "min": 0, "max": 1}}


def accuracy(trial: Trial, step: int) -> float:
    """After a step: best where lr is 0.3, and all the same at first."""
    return (1 - abs(trial.overrides["training.lr"] - 0.3)) * (1 - 0.9**step)


def search(method: str, trials: int, pace: int) -> tuple[SweepSpec, dict[int, Trial]]:
    """All trials of a search as they ended; `pace` says whose step is next."""
    rule = {"method": "asha", "minSteps": RUNG, "reductionFactor": 3}
    fields = {"parameters": LR, "maxTrials": trials, "parallelism": 3, "earlyStopping": rule}
    spec = make_sweep(method, **fields).spec
    turns, known = random.Random(pace), dict[int, Trial]()
    while True:
        for verdict in _verdicts(spec, known):
            known[verdict.number] = _settled(known[verdict.number], verdict)
        for new in propose(spec, list(known.values())):
            known[new.number] = Trial(
                number=new.number, overrides=new.overrides, steps=STEPS, pause_at=RUNG
            )
        at_work = [t for t in known.values() if t.state == "Running" and not t.is_paused]
        assert len(at_work) <= spec.parallelism
        if at_work:
            one = turns.choice(at_work)
            known[one.number] = _further(one)
        elif not list(_verdicts(spec, known)):
            return spec, known


def _verdicts(spec: SweepSpec, known: dict[int, Trial]) -> Iterator[Verdict]:
    trials = list(known.values())
    yield from judge(spec, trials)
    is_over = not propose(spec, trials) and all(t.state != "Running" for t in trials)
    if is_over and (last := last_resort(spec, trials)):
        yield last


def _settled(trial: Trial, verdict: Verdict) -> Trial:
    if verdict.action == "stop":
        return replace(trial, state="Stopped", is_paused=False)
    return replace(trial, state="Running", is_paused=False, pause_at=verdict.pause_at)


def _further(trial: Trial) -> Trial:
    step = len(trial.curve) + 1
    value = accuracy(trial, step)
    return replace(
        trial,
        curve=(*trial.curve, (step, value)),
        value=value,
        state="Succeeded" if step == STEPS else "Running",
        is_paused=trial.pause_at is not None and trial.pause_at <= step < STEPS,
    )


@pytest.mark.parametrize("trials", [1, 2, 4, 9, 20])
def test_one_trial_comes_to_its_end_however_few_there_are(trials: int) -> None:
    for pace in range(5):
        _, ended = search("random", trials, pace)
        assert len(ended) == trials
        best = max(ended.values(), key=lambda trial: accuracy(trial, STEPS))
        assert best.state == "Succeeded"


def test_nobody_trains_beyond_the_rung_at_which_it_was_stopped() -> None:
    _, ended = search("random", 27, 0)
    assert {t.curve[-1][0] for t in ended.values() if t.state == "Stopped"} <= {1, 3}
    assert sum(len(trial.curve) for trial in ended.values()) < 27 * STEPS / 2


def test_bayes_tries_the_same_in_whatever_order_trials_come_to_their_rungs() -> None:
    tried = [{n: t.overrides for n, t in search("bayes", 16, pace)[1].items()} for pace in (0, 1)]
    assert tried[0] == tried[1]
    assert len(tried[0]) == 16
