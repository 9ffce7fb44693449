"""What a sweep makes of its objective: where trials miss it, and when a mean of it is told."""

from typing import Any

import pytest
from core_sweepcluster import start
from core_sweeps import make_spec
from unit.sweep.test_plan import told


def test_objective_that_no_trial_reports_ends_the_sweep_and_names_what_there_is() -> None:
    cluster = start()
    cluster.succeed("digits-0", 0.5, "val_accuracies")
    cluster.settle()
    assert told(cluster, "Failed") == (
        "ObjectiveNotReported",
        "spec.objective.metric: no trial reports 'val_accuracy'; did you mean 'val_accuracies'? "
        "They report 'val_accuracies'.",
    )


def test_trainer_that_misses_the_objective_is_quoted_in_the_sweeps_words() -> None:
    cluster = start()
    rest = "'val_accuracy' is not among what is evaluated; name one of 'val_loss'."
    cluster.fail("digits-0", "ConfigurationError", f"spec.checkpoint.keepBest.metric: {rest}")
    cluster.settle()
    assert told(cluster, "Failed") == ("ObjectiveNotReported", f"spec.objective.metric: {rest}")


def test_objective_that_is_missed_after_training_began_still_ends_the_sweep_at_once() -> None:
    cluster = start(parallelism=2)
    for job in ("digits-0", "digits-1"):
        cluster.report(job, 10, 0.5, "train_loss")
    rest = "'val_accuracy' is not among what is evaluated; name one of 'val_loss'."
    cluster.fail("digits-1", "ConfigurationError", f"spec.checkpoint.keepBest.metric: {rest}")
    cluster.settle()
    assert told(cluster, "Failed") == ("ObjectiveNotReported", f"spec.objective.metric: {rest}")
    assert cluster.made == ["digits-0", "digits-1"]


def test_templates_own_keep_best_that_is_missed_is_not_told_as_the_objective() -> None:
    template = make_spec()["template"]
    template["spec"]["checkpoint"] = {"keepBest": {"metric": "val_acc", "mode": "max"}}
    cluster = start(template=template)
    rest = "'val_acc' is not among what is evaluated; name one of 'val_loss'."
    cluster.fail("digits-0", "ConfigurationError", f"spec.checkpoint.keepBest.metric: {rest}")
    cluster.settle()
    assert told(cluster, "Failed") == (
        "ConfigurationError",
        f"spec.template.spec.checkpoint.keepBest.metric: {rest}",
    )


@pytest.mark.parametrize(
    ("fields", "mean"),
    [
        ({}, 0.75),
        ({"parameters": {"training.lr": {"values": [1, 2, 3]}}}, None),
        ({"parameters": {"training.lr": {"values": [1]}}, "folds": 3}, 0.75),
    ],
    ids=["seeds", "settings", "a setting on folds"],
)
def test_mean_is_told_of_repeats_alone(fields: dict[str, Any], mean: float | None) -> None:
    cluster = start("grid", parallelism=3, **fields)
    for number, value in enumerate([0.5, 0.75, 1.0]):
        cluster.succeed(f"digits-{number}", value)
    cluster.settle()
    summary = cluster.status.summary
    assert (summary.mean if summary else None) == mean
    assert cluster.status.display.summary == ("0.75 ± 0.25" if mean else "")
