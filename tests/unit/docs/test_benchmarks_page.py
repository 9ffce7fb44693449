"""`make bench BENCH_FLAGS=--write` finds where each table goes."""

import pytest
from bench.page import END, PAGE
from bench.run import BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_has_its_place_in_the_page(name: str) -> None:
    _, found, rest = PAGE.read_text().partition(
        f"<!-- {name}: written by tests/bench/run.py --write -->\n"
    )
    assert found
    assert END in rest
