"""Which trials begin, in which order, whatever becomes of the ones before."""

import itertools
import random

import pytest
from core_sweeps import make_sweep

from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.search import propose, trials_in_all
from trainyard_operator.sweep.trial import Proposal, Trial

LEARNING_RATE = {"distribution": "log_uniform", "min": 1e-5, "max": 1e-2}
GRID = {"model.variant": {"values": ["b0", "b1"]}, "data.batch_size": {"values": [16, 32, 64]}}
MIXED = {"training.lr": LEARNING_RATE, "model.depth": {"values": [18, 34, 50]}}


def spec_of(method: str, **fields: object) -> SweepSpec:
    return make_sweep(method, **fields).spec


def started(proposals: tuple[Proposal, ...], state: str = "Running") -> list[Trial]:
    return [
        Trial(number=p.number, name=p.name, overrides=p.overrides, fold=p.fold, state=state)  # type: ignore[arg-type]
        for p in proposals
    ]


def finish(spec: SweepSpec, order: random.Random) -> list[Trial]:
    """All trials of a sweep that end in a random order, one at a time."""
    trials: dict[int, Trial] = {}
    while True:
        for one in started(propose(spec, list(trials.values()))):
            trials[one.number] = one
        running = [trial for trial in trials.values() if trial.state == "Running"]
        if not running:
            return [trials[number] for number in sorted(trials)]
        ended = order.choice(running)
        x = ended.overrides.get("training.lr", 0.5)
        value = -abs(float(x) - 0.003)
        trials[ended.number] = Trial(
            number=ended.number, overrides=ended.overrides, state="Succeeded", value=value
        )


def test_a_grid_is_every_combination_by_the_alphabet_of_its_keys():
    proposals = propose(spec_of("grid", parameters=GRID, parallelism=9), [])
    expected = list(itertools.product([16, 32, 64], ["b0", "b1"]))
    assert [tuple(p.overrides.values()) for p in proposals] == expected
    assert proposals[1] == Proposal(
        number=1, overrides={"data.batch_size": 16, "model.variant": "b1"}
    )
    turned = dict(reversed(GRID.items()))
    assert propose(spec_of("grid", parameters=turned, parallelism=9), []) == proposals


def test_no_more_begin_than_have_room_and_none_twice():
    spec = spec_of("grid", parameters=GRID, parallelism=2)
    first = propose(spec, [])
    assert [p.number for p in first] == [0, 1]
    assert propose(spec, started(first)) == ()
    later = [*started(first[:1]), *started(first[1:], "Failed")]
    assert [p.number for p in propose(spec, later)] == [2]


def test_a_gap_is_filled_first():
    spec = spec_of("grid", parameters=GRID, parallelism=3)
    known = [trial for trial in started(propose(spec, []), "Succeeded") if trial.number != 1]
    assert [p.number for p in propose(spec, known)] == [1, 3, 4]


def test_max_trials_cuts_a_grid_off():
    assert trials_in_all(spec_of("grid", parameters=GRID, maxTrials=4)) == 4
    assert trials_in_all(spec_of("grid", parameters=GRID)) == 6


def test_trials_that_have_begun_count_where_fewer_are_wanted_since():
    begun = started(propose(spec_of("grid", parameters=GRID, parallelism=4), []))
    fewer = spec_of("grid", parameters=GRID, parallelism=9, maxTrials=2)
    assert (trials_in_all(fewer, begun), propose(fewer, begun)) == (4, ())
    without_first = begun[1:]
    assert [p.number for p in propose(fewer, without_first)] == [0]


def test_folds_are_numbered_and_change_nothing_else():
    assert propose(spec_of("folds", folds=3, parallelism=5), []) == tuple(
        Proposal(number=fold, name=f"fold-{fold}", overrides={}, fold=fold) for fold in range(3)
    )


def test_each_variant_is_trained_on_every_fold():
    trials = [{"name": "A0"}, {"name": "A1", "overrides": {"model.depth": 2}}]
    found = propose(spec_of("list", trials=trials, folds=2, parallelism=9), [])
    assert [(p.number, p.name, p.overrides, p.fold) for p in found] == [
        (0, "A0-fold-0", {}, 0),
        (1, "A0-fold-1", {}, 1),
        (2, "A1-fold-0", {"model.depth": 2}, 0),
        (3, "A1-fold-1", {"model.depth": 2}, 1),
    ]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_one_seed_tries_the_same_in_whatever_order_trials_end(method):
    spec = spec_of(method, parameters=MIXED, maxTrials=16, parallelism=4, seed=7)
    runs = [[t.overrides for t in finish(spec, random.Random(order))] for order in range(3)]
    assert runs[0] == runs[1] == runs[2]
    assert len(runs[0]) == 16
    other = spec_of(method, parameters=MIXED, maxTrials=16, parallelism=4, seed=8)
    assert [t.overrides for t in finish(other, random.Random(0))] != runs[0]


def test_a_random_search_is_not_changed_by_parallelism_or_more_trials():
    small = spec_of("random", parameters=MIXED, maxTrials=5)
    large = spec_of("random", parameters=MIXED, maxTrials=50, parallelism=50)
    alone = [trial.overrides for trial in finish(small, random.Random(0))]
    assert [p.overrides for p in propose(large, [])][:5] == alone


def test_bayes_waits_for_the_trial_that_the_next_depends_on():
    spec = spec_of("bayes", parameters=MIXED, maxTrials=20, parallelism=3)
    done = [
        Trial(
            number=number,
            overrides={"training.lr": 0.001, "model.depth": 18},
            state="Running" if number == 10 else "Succeeded",
            value=0.5,
        )
        for number in range(12)
    ]
    assert [p.number for p in propose(spec, done)] == [12]
    further = [*done, *started(propose(spec, done), "Succeeded")]
    assert propose(spec, further) == ()


def test_a_failed_trial_is_made_up_for_if_it_is_asked_for():
    fields = {"parameters": MIXED, "maxTrials": 3, "parallelism": 9}
    spec = spec_of("random", failurePolicy={"replace": True}, **fields)
    first = propose(spec, [])
    trials = [*started(first[:1], "Failed"), *started(first[1:], "Succeeded")]
    assert [p.number for p in propose(spec, trials)] == [3]
    assert propose(spec_of("random", **fields), trials) == ()


def test_replacements_end_when_everything_fails():
    spec = spec_of(
        "random", parameters=MIXED, maxTrials=3, parallelism=9, failurePolicy={"replace": True}
    )
    trials: list[Trial] = []
    while more := propose(spec, trials):
        trials += started(more, "Failed")
    assert len(trials) == 6
