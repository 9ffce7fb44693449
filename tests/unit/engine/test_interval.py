"""Saves by the clock, with the clock in hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard_trainer.interval import Interval


def test_given_seconds_are_obeyed() -> None:
    interval = Interval(0, seconds=60)
    assert [interval.is_due(now) for now in (0, 59.9, 60, 75)] == [False, False, True, True]
    interval.note(75, 5.0, is_saved=True)
    assert [interval.is_due(now) for now in (134, 135)] == [False, True]
    assert not interval.is_paid_for(1e9)


def test_without_an_interval_nothing_is_due_by_the_clock() -> None:
    interval = Interval(0)
    assert not interval.is_due(1e9)
    assert not interval.is_paid_for(1e9)


def test_a_share_saves_each_epoch_until_that_would_cost_too_much() -> None:
    interval = Interval(0, share=0.02)
    assert interval.is_paid_for(0.5)  # Nothing is known of the cost yet.
    interval.note(1.0, 0.01, is_saved=True)
    assert interval.shortest == pytest.approx(0.49)
    assert [interval.is_paid_for(now) for now in (1.4, 1.5)] == [False, True]


@pytest.mark.parametrize(("cost", "due_after"), [(0.01, 30.0), (0.6, 30.0), (2.0, 98.0)])
def test_within_an_epoch_it_is_never_under_half_a_minute(cost: float, due_after: float) -> None:
    interval = Interval(0, share=0.02)
    interval.note(0, cost, is_saved=True)
    assert not interval.is_due(due_after - 0.01)
    assert interval.is_due(due_after + 0.01)


def test_a_dear_first_save_is_forgotten_by_and_by() -> None:
    interval = Interval(0, share=0.02)
    interval.note(0, 1.6, is_saved=True)
    for _ in range(5):
        interval.note(0, 0.1, is_saved=True)
    assert interval.shortest == pytest.approx(4.9)


@pytest.mark.parametrize("rule", [{"seconds": 60.0}, {"share": 0.02}])
def test_a_skipped_save_is_soon_tried_again_but_not_at_every_step(rule: dict[str, float]) -> None:
    interval = Interval(0, **rule)
    assert interval.is_due(100)
    interval.note(100, 0.001, is_saved=False)
    assert [interval.is_due(now) for now in (100, 109.9, 110)] == [False, False, True]


@given(
    costs=st.lists(st.floats(0.001, 20), min_size=1, max_size=30),
    epoch_seconds=st.floats(0.05, 500),
    share=st.floats(0.005, 0.3),
)
def test_the_share_is_kept(costs: list[float], epoch_seconds: float, share: float) -> None:
    """Costs may rise or fall; each save is paid for by the training before the next one."""
    interval, now = Interval(0, share=share), 0.0
    paid = stood = 0.0
    for cost in costs:
        began = now
        while not interval.is_paid_for(now):
            now += epoch_seconds
        paid += now - began
        if stood:
            assert stood <= share * (paid + stood) * (1 + 1e-9)
        stood += cost
        now += cost
        interval.note(now, cost, is_saved=True)
