"""Who is stopped early, who is resumed, and that neither changes what is tried."""

import random
from dataclasses import replace

from core_sweeps import make_sweep

from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.stopping import Verdict, first_stops, judge, last_resort
from trainyard_operator.sweep.trial import Trial, TrialState

LOSS = {"metric": "val_loss", "goal": "minimize"}


def spec_of(rule: dict, method: str = "random", **fields: object) -> SweepSpec:
    return make_sweep(method, earlyStopping=rule, **{"parallelism": 4, **fields}).spec


def trial(number: int, *values: float, state: TrialState = "Running", every: int = 10) -> Trial:
    """With an evaluation every 10 steps."""
    curve = tuple((every * (index + 1), value) for index, value in enumerate(values))
    return Trial(number=number, state=state, curve=curve, value=max(values, default=None))


MEDIAN = {"method": "median", "minSteps": 20, "minTrials": 3}
GOOD = [trial(n, 0.5, 0.6, 0.7, state="Succeeded") for n in range(3)]
"""Averages up to step 20 are 0.55."""


def test_the_median_rule_stops_what_is_strictly_worse():
    assert judge(spec_of(MEDIAN), [*GOOD, trial(3, 0.2, 0.54)]) == (
        Verdict(
            number=3,
            action="stop",
            reason="Worse at step 20 than the median of 3 trials that came as far: stopped with "
            "its checkpoint.",
        ),
    )
    assert judge(spec_of(MEDIAN), [*GOOD, trial(3, 0.2, 0.55)]) == ()


def test_the_median_rule_counts_the_best_so_far():
    assert judge(spec_of(MEDIAN), [*GOOD, trial(3, 0.9, 0.1)]) == ()


def test_the_median_rule_waits_for_steps_and_for_trials():
    assert judge(spec_of(MEDIAN), [*GOOD, trial(3, 0.1)]) == ()
    assert judge(spec_of(MEDIAN), [*GOOD[:2], trial(3, 0.1, 0.1)]) == ()
    assert judge(spec_of(MEDIAN), [*GOOD, trial(3)]) == ()


def test_smaller_is_better_where_the_goal_is_to_minimize():
    spec = spec_of(MEDIAN, objective=LOSS)
    assert judge(spec, [*GOOD, trial(3, 0.2, 0.3)]) == ()
    assert [v.number for v in judge(spec, [*GOOD, trial(3, 0.7, 0.6)])] == [3]


ASHA = {"method": "asha", "minSteps": 10, "reductionFactor": 3}


def test_one_in_three_goes_on_from_a_rung():
    field = [trial(0, 0.5), trial(1, 0.4), trial(2, 0.6)]
    assert [v.number for v in judge(spec_of(ASHA), field)] == [0, 1]
    assert judge(spec_of(ASHA), field)[0].reason == (
        "Rank 2 of 3, of which 1 go on, at step 10: stopped with its checkpoint."
    )


def test_nobody_goes_on_before_there_are_three():
    [first, second] = judge(spec_of(ASHA), [trial(0, 0.5), trial(1, 0.4)])
    assert (first.number, second.number) == (0, 1)
    assert first.reason == (
        "Rank 1 of 2, too few for one in 3 to go on yet, at step 10: stopped with its checkpoint."
    )


def paused(number: int, *values: float, at: int = 10, steps: int | None = None) -> Trial:
    """At its rung, before anybody judged it."""
    return replace(trial(number, *values), pause_at=at, is_paused=True, steps=steps)


def test_a_paused_trial_that_is_kept_goes_on_to_the_next_rung():
    field = [paused(0, 0.5), paused(1, 0.4), paused(2, 0.6)]
    assert [(v.number, v.action, v.pause_at) for v in judge(spec_of(ASHA), field)] == [
        (0, "stop", None),
        (1, "stop", None),
        (2, "promote", 30),
    ]


def test_a_trial_that_was_let_past_its_rung_is_not_judged_there_again():
    cleared = replace(trial(0, 0.5), pause_at=30)
    better = [trial(n, 0.9, state="Stopped") for n in range(1, 6)]
    verdicts = judge(spec_of(ASHA), [cleared, *better])
    assert [v.action for v in verdicts] == ["promote", "promote"]
    assert 0 not in {v.number for v in verdicts}


def test_a_trial_that_has_trained_to_its_end_is_not_stopped():
    done = replace(trial(0, 0.1), pause_at=10, steps=10)
    [promoted] = judge(spec_of(ASHA), [done, *(trial(n, 0.9, state="Stopped") for n in (1, 2))])
    assert (promoted.number, promoted.action) == (1, "promote")


def test_where_none_is_to_come_the_best_of_the_highest_rung_goes_on():
    stopped = [trial(0, 0.9, state="Stopped"), trial(1, 0.5, 0.6, 0.7, state="Stopped")]
    assert last_resort(spec_of(ASHA), stopped) == Verdict(
        number=1,
        action="promote",
        reason="The best at step 30, and none is to come: resumed from its checkpoint.",
        pause_at=90,
    )
    assert last_resort(spec_of(ASHA), [*stopped, trial(2, 0.1, state="Succeeded")]) is None
    assert last_resort(spec_of(MEDIAN), stopped) is None


def test_a_trial_past_its_rung_is_left_alone():
    field = [trial(0, 0.5, 0.1), trial(1, 0.6), trial(2, 0.7), trial(3, 0.8)]
    assert [v.number for v in judge(spec_of(ASHA), field)] == [1, 2]


def test_rungs_grow_by_the_factor():
    ended = [trial(n, 0.1, 0.2, 0.7, state="Succeeded") for n in range(5)]
    assert [v.number for v in judge(spec_of(ASHA), [*ended, trial(5, 0.9, 0.3, 0.3)])] == []
    late = trial(5, 0.3, 0.3, 0.3)
    assert [v.number for v in judge(spec_of(ASHA), [*ended, late])] == [5]


def test_a_stopped_trial_is_promoted_once_its_rung_has_room():
    early = [trial(0, 0.6, 0.7, 0.8, state="Succeeded"), trial(1, 0.5, state="Stopped")]
    assert (
        judge(spec_of(ASHA), [*early, *(trial(n, 0.1, state="Stopped") for n in (2, 3, 4))]) == ()
    )
    later = [*early, *(trial(n, 0.1, state="Stopped") for n in (2, 3, 4, 5))]
    assert judge(spec_of(ASHA), later) == (
        Verdict(
            number=1,
            action="promote",
            reason="Rank 2 of 6, of which 2 go on, at step 10: resumed from its checkpoint.",
            pause_at=30,
        ),
    )


def test_promotions_wait_for_a_slot():
    known = [trial(0, 0.6, 0.7, state="Succeeded"), trial(1, 0.5, state="Stopped")]
    known += [trial(n, 0.1, state="Stopped") for n in range(2, 6)]
    running = [Trial(number=n) for n in range(6, 10)]
    assert judge(spec_of(ASHA), [*known, *running]) == ()
    assert [v.action for v in judge(spec_of(ASHA), [*known, *running[1:]])] == ["promote"]


def test_the_highest_rung_is_promoted_first():
    known = [trial(n, 0.9, 0.9, 0.9, state="Stopped") for n in range(1)]
    known += [trial(n, 0.8, state="Stopped") for n in range(1, 3)]
    known += [trial(n, 0.1, 0.1, 0.1, state="Succeeded") for n in range(3, 9)]
    assert [v.number for v in judge(spec_of(ASHA), known)] == [0, 1, 2]


def test_a_promoted_trial_is_not_stopped_at_the_same_rung_again():
    known = [trial(0, 0.6, 0.7, state="Succeeded"), trial(1, 0.5, state="Stopped")]
    known += [trial(n, 0.1, state="Stopped") for n in range(2, 6)]
    [verdict] = judge(spec_of(ASHA), known)
    resumed = [trial(1, 0.5) if one.number == verdict.number else one for one in known]
    assert judge(spec_of(ASHA), resumed) == ()


def test_of_equal_trials_no_more_go_on_than_one_in_three():
    known = [trial(n, 0.5) for n in range(6)]
    assert [v.number for v in judge(spec_of(ASHA), known)] == [2, 3, 4, 5]


def test_without_a_rule_nobody_is_judged():
    assert judge(make_sweep("random").spec, [*GOOD, trial(3, 0.0, 0.0)]) == ()


def test_bayes_judges_by_what_was_settled_before_a_trial_began():
    spec = spec_of(ASHA, method="bayes", parallelism=4)
    better = [trial(n, 0.9, state="Succeeded") for n in (3, 4, 5)]
    assert judge(spec, [*better, trial(6, 0.1)]) == ()
    assert [v.number for v in judge(spec, [*better, trial(8, 0.1)])] == [8]


def test_bayes_judges_by_nothing_that_a_promotion_brought():
    spec = spec_of(ASHA, method="bayes", parallelism=1)
    known = [trial(0, 0.5, 0.5, 0.5, state="Succeeded"), trial(1, 0.4, 0.4, 0.4, state="Succeeded")]
    known += [trial(n, 0.3, state="Stopped") for n in (2, 3)]
    assert first_stops(spec, known) == {2: 10, 3: 10}
    new = trial(4, 0.6, 0.6, 0.6)
    promoted = trial(2, 0.3, 0.9, 0.9, state="Succeeded")
    assert [v.number for v in judge(spec, [*known, new])] == []
    assert [v.number for v in judge(spec, [*known[:2], promoted, known[3], new])] == []
    better = [trial(n, 0.9, 0.9, 0.9, state="Succeeded") for n in range(4)]
    assert [v.number for v in judge(spec, [*better, trial(4, 0.3, 0.8, 0.8)])] == [4]


def test_first_stops_do_not_depend_on_what_promotions_brought():
    spec = spec_of(ASHA, method="bayes", parallelism=1)
    values = random.Random(4)
    curves = [[values.random() for _ in range(9)] for _ in range(30)]
    whole = [trial(n, *curve, state="Succeeded") for n, curve in enumerate(curves)]
    stops = first_stops(spec, whole)
    assert 10 < len(stops) < 30
    cut = [
        trial(n, *(curve[: stops[n] // 10] if n in stops else curve), state="Stopped")
        for n, curve in enumerate(curves)
    ]
    assert first_stops(spec, cut) == stops
    assert first_stops(spec, list(reversed(whole))) == stops
