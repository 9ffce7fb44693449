from typing import Any

import pytest

from trainyard_trainer.config import ScheduleConfig
from trainyard_trainer.schedule import build_schedule


def rates(config: dict[str, Any], epochs: int, steps_per_epoch: int, rate: float) -> list[float]:
    schedule = build_schedule(ScheduleConfig(**config), rate, epochs, steps_per_epoch)
    return [rate * schedule.factor(step) for step in range(epochs * steps_per_epoch)]


def test_cosine_by_epoch_has_the_values_of_the_lung_guide() -> None:
    config = {"name": "cosine", "interval": "epoch", "warmup_epochs": 5, "min_lr": 1e-5}
    found = rates(config, 100, 3, 1e-3)
    assert found[0] == found[2] == pytest.approx(2e-4)
    assert found[4 * 3] == pytest.approx(1e-3)
    assert found[99 * 3] == pytest.approx(1.0271e-5, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"name": "constant"}, [1, 1, 1, 1, 1, 1]),
        ({"name": "constant", "warmup_epochs": 1.5}, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ({"name": "step", "period_epochs": 1, "gamma": 0.5}, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"name": "multi_step", "milestones": (2, 1)}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (
            {"name": "exponential", "gamma": 0.25, "interval": "epoch"},
            [1, 1, 0.25, 0.25, 0.0625, 0.0625],
        ),
        ({"name": "cosine"}, [1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
    ],
)
def test_factors_of_three_epochs_of_two_steps(
    config: dict[str, Any], expected: list[float]
) -> None:
    assert rates(config, 3, 2, 1.0) == pytest.approx(expected)


def test_one_cycle_rises_for_three_tenths_and_ends_at_the_floor() -> None:
    found = rates({"name": "one_cycle", "min_lr": 0.001}, 10, 10, 1.0)
    assert found[0] == pytest.approx(0.04)
    assert found.index(max(found)) == 30
    assert found[30] == pytest.approx(1.0)
    assert found[99] == pytest.approx(0.001, abs=0.001)


def test_plateau_drops_after_its_patience_and_resumes() -> None:
    config = ScheduleConfig(name="plateau", patience=1, gamma=0.5, min_lr=0.3)
    schedule = build_schedule(config, 1.0, 9, 1)
    seen = []
    for value in (5, 4, 4, float("nan"), 3, 3, 3, 3, 3):
        schedule.observe(value)
        again = build_schedule(config, 1.0, 9, 1)
        again.load_state_dict(schedule.state_dict())
        schedule = again
        seen.append(schedule.factor(0))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]
