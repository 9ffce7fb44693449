"""What a parameter can be, and that drawing covers it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard_operator.sweep.api import Parameter
from trainyard_operator.sweep.space import combination, draw, extremes, size_of

VALUES = {"values": ["b0", "b1", "b2"]}
CASES = {
    "values": (VALUES, ["b0", "b1", "b2"]),
    "whole numbers": (
        {"distribution": "int_uniform", "min": 2, "max": 4},
        [2, 3, 4],
    ),
    "whole numbers with a step": (
        {"distribution": "int_uniform", "min": 16, "max": 64, "step": 16},
        [16, 32, 48, 64],
    ),
    "a step that is no binary fraction": (
        {"distribution": "uniform", "min": 0.0, "max": 0.3, "step": 0.1},
        [0.0, 0.1, 0.2, 0.3],
    ),
    "a step that does not reach the end": (
        {"distribution": "uniform", "min": 0.0, "max": 1.0, "step": 0.4},
        [0.0, 0.4, 0.8],
    ),
}


def parameter(**fields: object) -> Parameter:
    return Parameter.model_validate(fields)


@pytest.mark.parametrize(("fields", "expected"), CASES.values(), ids=CASES)
def test_a_finite_parameter_is_a_list_of_values(fields, expected):
    one = {"x": parameter(**fields)}
    assert size_of(one) == len(expected)
    assert [combination(one, index)["x"] for index in range(len(expected))] == expected


@pytest.mark.parametrize(("fields", "expected"), CASES.values(), ids=CASES)
def test_extremes_are_all_values_or_the_ends_that_may_be_drawn(fields, expected):
    wanted = expected if "values" in fields else [expected[0], expected[-1]]
    assert extremes(parameter(**fields)) == wanted


def test_a_range_without_a_step_has_no_size():
    one = parameter(distribution="uniform", min=0, max=1)
    assert size_of({"x": one}) is None
    assert extremes(one) == [0, 1]


def test_a_finite_space_is_drawn_without_repeats():
    space = {"a": parameter(**VALUES), "b": parameter(distribution="int_uniform", min=1, max=7)}
    drawn = [tuple(draw(space, 3, number).items()) for number in range(21)]
    assert len(set(drawn)) == 21
    assert drawn != [tuple(combination(space, number).items()) for number in range(21)]


def test_a_large_finite_space_is_drawn_without_repeats():
    space = {"a": parameter(distribution="int_uniform", min=1, max=10**6)}
    assert len({draw(space, 0, number)["a"] for number in range(500)}) == 500
    assert draw(space, 0, 3) == draw(space, 0, 3)


def test_log_uniform_is_even_over_the_orders_of_magnitude():
    space = {"x": parameter(distribution="log_uniform", min=1e-5, max=1e-2)}
    logs = [math.log10(draw(space, 0, number)["x"]) for number in range(3000)]
    shares = [sum(low <= one < low + 1 for one in logs) / 3000 for low in (-5, -4, -3)]
    assert all(0.29 < share < 0.38 for share in shares)


@given(
    low=st.floats(1e-9, 1e9),
    factor=st.floats(1.001, 1e6),
    seed=st.integers(0, 99),
    number=st.integers(0, 9),
)
def test_what_is_drawn_lies_in_the_range(low, factor, seed, number):
    for kind in ("uniform", "log_uniform"):
        space = {"x": parameter(distribution=kind, min=low, max=low * factor)}
        assert low <= draw(space, seed, number)["x"] <= low * factor
