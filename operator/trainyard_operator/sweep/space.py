"""What the parameters of a sweep may be: every combination of a grid, or one drawn from a seed.

A setting is a pure function of the parameters, the seed and its number, so that a sweep that is
taken up again, on another machine too, tries the same. Keys are taken in alphabetical order: the
API server keeps no other.
"""

import functools
import math
import random
from collections.abc import Mapping
from typing import Any

from trainyard_operator.sweep.api import Parameter

SIGNIFICANT_DIGITS = 6
"""Of what is drawn from a range: as many as anybody will read or type again."""
_SHUFFLED = 2**16
"""A finite space up to this size is shuffled whole; of a larger one, repeats are drawn again."""

Parameters = Mapping[str, Parameter]
Settings = dict[str, Any]
"""Dotted key of the configuration to its value."""


def size_of(parameters: Parameters) -> int | None:
    """How many combinations there are; None where a range has no step."""
    sizes = [_size(parameter) for parameter in parameters.values()]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def combination(parameters: Parameters, index: int) -> Settings:
    """Of a finite space, from 0; the last key in the alphabet changes fastest."""
    found: Settings = {}
    for key in sorted(parameters, reverse=True):
        size = _size(parameters[key])
        if size is None:
            raise ValueError(f"'{key}' has no step")
        index, place = divmod(index, size)
        found[key] = value_at(parameters[key], place)
    return dict(sorted(found.items()))


def draw(parameters: Parameters, seed: int, number: int) -> Settings:
    """The setting of trial `number` of a random search.

    In a finite space no combination comes twice before all have come.
    """
    if size := size_of(parameters):
        order = _order(size, seed, number // size, number % size + 1)
        return combination(parameters, order[number % size])
    return {
        key: _drawn(parameters[key], random.Random(f"{seed}/{number}/{key}"))
        for key in sorted(parameters)
    }


def value_at(parameter: Parameter, place: int) -> Any:
    """The value at a place, from 0, of a finite parameter."""
    if parameter.values is not None:
        return parameter.values[place]
    low, _ = bounds(parameter)
    return as_value(parameter, low + place * (parameter.step or 1))


def extremes(parameter: Parameter) -> list[Any]:
    """All of `values`; of a range the smallest and the largest value that may come out of it."""
    if parameter.values is not None:
        return list(parameter.values)
    size = _size(parameter)
    if size is None:
        return [as_value(parameter, end) for end in bounds(parameter)]
    return [value_at(parameter, place) for place in (0, size - 1)]


def as_value(parameter: Parameter, number: float) -> float | int:
    """A number of a range, as it is written down: within the range, and with few digits."""
    if parameter.distribution == "int_uniform":
        return int(number)
    low, high = bounds(parameter)
    return min(max(float(f"{number:.{SIGNIFICANT_DIGITS}g}"), low), high)


def bounds(parameter: Parameter) -> tuple[float, float]:
    """Of a range. Raises ValueError for a list of values."""
    if parameter.min is None or parameter.max is None:
        raise ValueError("a list of values has no bounds")
    return parameter.min, parameter.max


def _size(parameter: Parameter) -> int | None:
    if parameter.values is not None:
        return len(parameter.values)
    low, high = bounds(parameter)
    step = 1 if parameter.distribution == "int_uniform" else parameter.step
    # 0.3 / 0.1 comes out below 3.
    return None if step is None else int((high - low) / (parameter.step or step) + 1e-9) + 1


def _drawn(parameter: Parameter, stream: random.Random) -> Any:
    if size := _size(parameter):
        return value_at(parameter, stream.randrange(size))
    low, high = bounds(parameter)
    if parameter.distribution == "log_uniform":
        return as_value(parameter, math.exp(stream.uniform(math.log(low), math.log(high))))
    return as_value(parameter, stream.uniform(low, high))


@functools.lru_cache(64)
def _order(size: int, seed: int, turn: int, count: int) -> list[int]:
    """The first `count` or more of a permutation of range(size): the same whatever `count` is."""
    stream = random.Random(f"{seed}/{turn}")
    if size <= _SHUFFLED:
        order = list(range(size))
        stream.shuffle(order)
        return order
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[stream.randrange(size)] = None
    return list(chosen)
