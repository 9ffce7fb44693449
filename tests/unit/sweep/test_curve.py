"""Curves of trials: short, and whole across restarts."""

from core_objects import make_status

from trainyard_operator.contract import Report
from trainyard_operator.curve import CURVE_POINTS, extended
from trainyard_operator.progress import with_report


def report(attempt: int, *curve: tuple[int, float]) -> Report:
    progress = {"step": curve[-1][0], "curve": [list(point) for point in curve]}
    return Report(attempt=attempt, time="2026-01-01T12:00:00Z", progress=progress)


def test_next_attempt_replaces_the_steps_that_it_repeats() -> None:
    status = with_report(make_status(attempt=1), report(1, (10, 0.5), (20, 0.6), (30, 0.4)))
    status = status.model_copy(update={"attempt": 2})
    status = with_report(status, report(2, (20, 0.7)))
    assert status.progress is not None
    assert status.progress.curve == [[10, 0.5], [20, 0.7]]


def test_attempt_that_has_evaluated_nothing_yet_keeps_what_is_known() -> None:
    status = with_report(make_status(attempt=1), report(1, (10, 0.5)))
    status = status.model_copy(update={"attempt": 2})
    later = Report(attempt=2, time="2026-01-01T12:01:00Z", progress={"step": 12})
    status = with_report(status, later)
    assert status.progress is not None
    assert status.progress.curve == [[10, 0.5]]


def test_long_run_keeps_a_selection_with_its_first_and_newest_point() -> None:
    curve: list[tuple[int, float]] = []
    for step in range(1, 1001):
        curve = extended(curve, step, 1 / step)
    assert len(curve) <= CURVE_POINTS
    assert (curve[0], curve[-1]) == ((1, 1.0), (1000, 0.001))


def test_number_that_is_not_finite_is_no_point() -> None:
    assert extended([(1, 0.5)], 2, float("nan")) == [(1, 0.5)]
