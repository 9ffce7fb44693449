"""Random histories of sweeps; a thousand more of them are slow."""

import pytest
from core_sweephistories import SweepHistories
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test


def check(examples: int) -> None:
    run_state_machine_as_test(
        SweepHistories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_thirty_histories_keep_the_promises() -> None:
    check(30)


@pytest.mark.slow
def test_a_thousand_histories_keep_the_promises() -> None:
    check(1000)
