from typing import Any

import pytest

from trainyard_trainer.config import EarlyStoppingConfig
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.policy import CheckpointPolicy, Judge
from trainyard_trainer.recipe import Metric

OWN = Metric("val_loss", "min")
DEFAULT = CheckpointPolicy(keep_best=OWN)


@pytest.mark.parametrize(
    ("spec", "policy"),
    [
        ({}, DEFAULT),
        ({"everySteps": 5}, CheckpointPolicy(keep_best=OWN, every_steps=5)),
        ({"pauseAtStep": 20}, CheckpointPolicy(keep_best=OWN, pause_at_step=20)),
        (
            {"maxOverheadPercent": 5, "keepEverySteps": 1000},
            CheckpointPolicy(keep_best=OWN, max_overhead=0.05, keep_every_steps=1000),
        ),
        (
            {"everySeconds": 60, "everyEpochs": 2},
            CheckpointPolicy(keep_best=OWN, every_seconds=60, every_epochs=2),
        ),
        (
            {"keepLast": 1, "keepBest": {"metric": "froc", "mode": "max"}, "async": False},
            CheckpointPolicy(keep_best=Metric("froc", "max"), keep_last=1, is_async=False),
        ),
        ({"keepBest": {"metric": "froc"}}, CheckpointPolicy(keep_best=Metric("froc", "max"))),
    ],
)
def test_spec_becomes_a_policy(spec: dict[str, Any], policy: CheckpointPolicy) -> None:
    assert CheckpointPolicy.parse(spec, OWN) == policy


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"everyStep": 5},
            "spec.checkpoint: unknown key 'everyStep'; did you mean 'everySteps'?",
        ),
        (
            {"keepLast": 0},
            "spec.checkpoint.keepLast: must be a whole number of at least 1; got 0.",
        ),
        (
            {"maxOverheadPercent": 0},
            "spec.checkpoint.maxOverheadPercent: must be a number above 0, at most 50; got 0.",
        ),
        (
            {"everySteps": "5"},
            "spec.checkpoint.everySteps: must be a whole number of at least 1; got '5'.",
        ),
    ],
)
def test_mistake_is_told_in_a_sentence(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CheckpointPolicy.parse(spec, OWN)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("early", "values", "ends_after"),
    [
        (None, [1, 2, 3, 4, 5], None),
        ({"patience": 2}, [3, 2, 2, 1, 1, 1], 6),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.9, 2.8, 1], 3),
        ({"patience": 1, "metric": "val_loss", "mode": "max"}, [1, 2, 2], 3),
        ({"patience": 2}, [1, float("nan"), float("nan")], 3),
    ],
)
def test_patience_ends_a_stage(
    early: dict[str, Any] | None, values: list[float], ends_after: int | None
) -> None:
    config = EarlyStoppingConfig(**early) if early else None
    judge, ended = Judge(OWN, config), None
    for count, value in enumerate(values, 1):
        _, ends = judge.judge({"val_loss": value})
        again = Judge(OWN, config)
        again.load_state_dict(judge.state_dict())
        judge = again
        if ends:
            ended = count
            break
    assert ended == ends_after


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [("min", [3, 4, 1, 1, 2], [3, 1]), ("max", [3, 4, float("nan"), 4, 5], [3, 4, 5])],
)
def test_only_an_improvement_is_the_best(mode: Any, values: list[float], best: list[float]) -> None:
    judge = Judge(Metric("score", mode), None)
    assert [value for value in values if judge.judge({"score": value})[0]] == best
