"""What the plots of a sweep's report show."""

from typing import Any

from trainyard_operator.sweep.table import ReportedTrial, SweepTable
from trainyard_trainer.sweep_pictures import sweep_pictures

WHOLE = {"state": "Succeeded", "curve": ((10, 0.2), (20, 0.4))}


def table_of(*trials: dict[str, Any]) -> SweepTable:
    return SweepTable(
        name="digits",
        namespace="research",
        uid="u",
        method="random",
        metric="val_accuracy",
        goal="maximize",
        trials=tuple(
            ReportedTrial(number=number, name=f"digits-{number}", job=f"digits-{number}", **one)
            for number, one in enumerate(trials)
        ),
    )


def drawn(*trials: dict[str, Any]) -> tuple[str, list[tuple[list[float], str]]]:
    """The label of the x axis; steps and mark of each line."""
    from matplotlib.figure import Figure

    figure = Figure()
    sweep_pictures(table_of(*trials))["learning curves"].draw(figure)
    [axis] = figure.axes
    lines = [(list(line.get_xdata()), str(line.get_marker())) for line in axis.lines]
    return axis.get_xlabel(), lines


def test_trial_stopped_at_its_first_rung_is_a_cross() -> None:
    label, lines = drawn(WHOLE, {"state": "Stopped", "curve": ((10, 0.1),)})
    assert label == "step (x: stopped early)"
    assert lines == [([10, 20], "None"), ([10], "None"), ([10], "x")]


def test_trial_with_one_point_that_was_not_stopped_is_a_dot() -> None:
    label, lines = drawn(WHOLE, {"state": "Running", "curve": ((10, 0.1),)})
    assert label == "step"
    assert lines == [([10, 20], "None"), ([10], ".")]


def test_trials_with_a_point_each_have_no_learning_curves() -> None:
    assert "learning curves" not in sweep_pictures(table_of({"curve": ((10, 0.1),)}, {}))
