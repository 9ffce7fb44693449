"""What the benchmarks of recipes make of their measurements, and that their sizes can be had."""

import pytest
from bench.apart import how
from bench.comparison import Comparison, shown
from bench.real_sizes import SIZES, Size, Step
from bench.real_sizes import rows_of as rows_of_size
from bench.recipe_waits import DRAW, Waits
from bench.recipe_waits import rows_of as rows_of_waits
from recipe_cases import BY_NAME

from trainyard_trainer.config import build_config
from trainyard_trainer.registry import load_recipe

STEP = Step(seconds=50.0, cpu_seconds=95.0, memory_mb=9876.5, samples=2, device="2 threads")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.recipe}-{size.what}")
def test_each_size_is_a_configuration_of_its_recipe(size: Size) -> None:
    build_config(load_recipe(size.recipe).config_class, [size.config])


def test_each_recipe_has_a_size_and_data_to_wait_for() -> None:
    assert {size.recipe for size in SIZES} == set(DRAW) == set(BY_NAME)


def test_a_size_has_a_line_for_its_step_and_one_for_its_memory() -> None:
    size = Size(recipe="r", what="Net, 8x8", config={}, write=lambda _: None, note="as it is")
    assert list(rows_of_size(size, STEP)) == [
        Comparison(
            what="r: Net, 8x8, batch of 2",
            ours=[50.0],
            note="0.04 samples a second on 2 threads, 0.0211 a second of CPU time; 95 s of CPU "
            "time; as it is",
        ),
        Comparison(what="r: Net, 8x8, batch of 2: most memory", ours=[9876.5], unit="MB"),
    ]


def test_waiting_for_data_is_told_with_and_without_a_worker() -> None:
    alone = Waits(first=12.5, later=1.25, memory_mb=400.0)
    helped = Waits(first=0.5, later=0.25, memory_mb=410.0)
    waiting, memory = rows_of_waits("r", alone, helped)
    assert waiting.cells() == ["waiting for data, r", "12.5 %", "-", "-", "-", "-"]
    assert waiting.note == (
        "of the first epoch's steps, whose files are read and decoded by the rank itself, and "
        "1.2 % of the second's; with num_workers: 1 0.5 % and 0.25 %"
    )
    assert memory.cells() == ["memory of a rank, r", "400 MB", "-", "-", "-", "-"]


def test_a_killed_measurement_is_said_to_be_one() -> None:
    assert how(-9) == "it was killed, as the kernel does where memory is short"
    assert how(1) == "it ended with 1"


def test_large_figures_are_shown_without_an_exponent() -> None:
    assert shown(12353.49, "MB") == "12,353 MB"
    assert shown(9876.5, "MB") == "9876 MB"
