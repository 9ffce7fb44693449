"""What a report says, beside the same worked out by hand."""

import csv
import math
import random
from statistics import mean, stdev
from typing import Any

import pytest
from scipy import stats

from trainyard_operator.sweep.effects import T_975, differences, importance, spreads
from trainyard_operator.sweep.report import lead, sections, to_csv, to_markdown, told_rows
from trainyard_operator.sweep.table import ReportedTrial, SweepTable, with_results

FOLDS = (0.90, 0.95, 0.93, 0.91, 0.96)


def table_of(method: str, *trials: ReportedTrial, **fields: Any) -> SweepTable:
    base = {"name": "digits", "namespace": "research", "uid": "u-1", "metric": "val_accuracy"}
    return SweepTable(**base | {"method": method, "goal": "maximize", "trials": trials, **fields})


def trial(number: int, value: float | None, **fields: Any) -> ReportedTrial:
    base = {"name": f"digits-{number}", "job": f"digits-{number}", "state": "Succeeded"}
    return ReportedTrial(number=number, value=value, **base | fields)


def ablation() -> SweepTable:
    """A0 is the template as it is; each variant on three folds."""
    values = {"A0": (0.80, 0.90, 0.85), "A1": (0.70, 0.84, 0.77)}
    trials = [
        trial(number * 3 + fold, value, name=f"{name}-fold-{fold}", fold=fold, overrides=setting)
        for number, (name, setting) in enumerate([("A0", {}), ("A1", {"model.depth": 2})])
        for fold, value in enumerate(values[name])
    ]
    return table_of("list", *trials, folds=3)


def test_a_cross_validation_has_a_mean_and_a_deviation():
    trials = [trial(n, value, fold=n, name=f"fold-{n}") for n, value in enumerate(FOLDS)]
    table = table_of("folds", *trials, folds=5, is_final=True)
    [spread] = spreads(table)
    assert (spread.mean, spread.std) == pytest.approx((mean(FOLDS), stdev(FOLDS)))
    assert lead(table) == (
        "5 of 5 trials succeeded. Best val_accuracy 0.96 (digits-4, fold-4); mean 0.93 ± 0.0255 "
        "(standard deviation, n - 1) over 5."
    )


def test_the_best_of_equals_is_the_first_and_of_losses_the_least():
    trials = [trial(0, 0.3), trial(1, 0.2), trial(2, 0.2), trial(3, 0.1, state="Failed")]
    assert table_of("random", *trials, goal="minimize").ranked[0][0].number == 1


def test_differences_are_paired_by_fold_with_a_corrected_interval():
    reference, [one] = differences(ablation())
    gaps = (-0.10, -0.06, -0.08)
    half = stats.t.ppf(0.975, 2) * stdev(gaps) * math.sqrt(1 / 3 + 1 / 2)
    assert (reference, one.label, one.count) == ("A0", "A1", 3)
    expected = (-0.08, -0.08 - half, -0.08 + half)
    assert (one.mean, one.low, one.high) == pytest.approx(expected, abs=1e-5)


def test_differences_are_paired_by_seed_where_there_are_no_folds():
    seeded = [
        trial(number, value, name=f"{name}-s{seed}", overrides={**setting, "training.seed": seed})
        for number, (name, setting, seed, value) in enumerate(
            [
                ("A0", {}, 1, 0.5),
                ("A0", {}, 2, 0.7),
                ("A1", {"d": 2}, 1, 0.4),
                ("A1", {"d": 2}, 3, 0),
            ]
        )
    ]
    reference, [one] = differences(table_of("list", *seeded))
    assert (reference, one.label, one.count, one.mean) == (
        "A0-s1", "A1-s1", 1, pytest.approx(-0.1)
    )  # fmt: skip
    assert (one.low, one.high) == (None, None)


def test_the_quantiles_are_students():
    expected = [stats.t.ppf(0.975, freedom) for freedom in range(1, len(T_975) + 1)]
    assert pytest.approx(expected, abs=5e-5) == T_975


def test_importance_finds_what_matters_and_not_what_does_not():
    stream = random.Random(1)
    trials = []
    for number in range(80):
        setting = {"lr": stream.random(), "variant": stream.choice("ab"), "noise": stream.random()}
        value = (setting["lr"] - 0.5) ** 2 + (0.05 if setting["variant"] == "a" else 0)
        trials.append(trial(number, value, overrides=setting))
    shares = importance(table_of("random", *trials))
    assert list(shares) == ["lr", "variant", "noise"]
    assert shares["lr"] > 0.5
    assert shares["noise"] < 0.05


def test_the_csv_has_every_trial_setting_and_metric():
    table = table_of(
        "grid",
        trial(1, None, state="Failed", overrides={"lr": 0.1}, message="exit code 1, twice"),
        trial(0, 0.5, overrides={"lr": 1e-05}),
    )
    full = with_results(table, {0: {"val_accuracy": 0.51234567891, "test_accuracy": 0.5}})
    assert list(csv.reader(to_csv(full).splitlines())) == [
        ["number", "name", "job", "state", "lr", "val_accuracy", "test_accuracy", "message"],
        ["0", "digits-0", "digits-0", "Succeeded", "1e-05", "0.51234567891", "0.5", ""],
        ["1", "digits-1", "digits-1", "Failed", "0.1", "", "", "exit code 1, twice"],
    ]


def test_people_see_few_digits_and_no_column_that_says_the_same_of_all():
    setting = {"lr": 0.1, "model.depth": 2}
    table = table_of(
        "grid",
        trial(0, 0.51234567891, overrides=setting),
        trial(1, 0.5, overrides=setting | {"lr": 0.2}),
    )
    scores = {"test_accuracy": 1 / 3, "train_loss": 12345.678, "epochs": 3.0}
    full = with_results(table, {0: scores, 1: scores | {"test_accuracy": 0.5, "train_loss": 0.1}})
    assert told_rows(full) == [
        ["job", "lr", "val_accuracy", "test_accuracy", "train_loss"],
        ["digits-0", "0.1", "0.5123", "0.3333", "12346"],
        ["digits-1", "0.2", "0.5", "0.5", "0.1"],
    ]
    assert told_rows(full, is_brief=True)[0] == ["job", "lr", "val_accuracy", "test_accuracy"]


def test_people_see_variants_states_and_reasons_where_these_differ():
    table = table_of(
        "list",
        trial(0, 0.5, name="A0"),
        trial(1, None, name="A1", state="Suspended", message="The sweep is suspended."),
    )
    assert told_rows(table) == [
        ["job", "name", "state", "val_accuracy", "message"],
        ["digits-0", "A0", "Succeeded", "0.5", ""],
        ["digits-1", "A1", "Suspended", "", "The sweep is suspended."],
    ]


def test_settings_that_differ_have_no_mean_together():
    trials = [trial(n, value, overrides={"lr": n}) for n, value in enumerate((0.5, 0.7))]
    assert lead(table_of("grid", *trials, is_final=True)) == (
        "2 of 2 trials succeeded. Best val_accuracy 0.7 (digits-1)."
    )


def test_the_markdown_of_an_ablation():
    assert to_markdown(ablation()).startswith(
        "# digits\n\n"
        "6 of 6 trials succeeded; the sweep has not ended. Best val_accuracy 0.9 (digits-1, "
        "A0-fold-1); best mean 0.85 ± 0.05 (standard deviation, n - 1) over 3, A0.\n\n"
        "## Mean over folds and seeds\n\n"
        "| setting | trials | mean val_accuracy | standard deviation |\n"
        "| --- | --- | --- | --- |\n"
        "| A0 | 3 | 0.85 | 0.05 |\n"
        "| A1 | 3 | 0.77 | 0.07 |\n\n"
        "## Against A0\n\n"
        "| setting | pairs | mean difference | 95 % interval |\n"
        "| --- | --- | --- | --- |\n"
        "| A1 | 3 | -0.08 | -0.1586 to -0.001444 |\n\n"
        "## Trials\n\n"
    )


def test_a_sweep_without_results_has_a_report_too():
    table = table_of("random", trial(0, None, state="Failed", message="out of memory"))
    assert lead(table) == "0 of 1 trial succeeded, 1 failed; the sweep has not ended."
    assert list(sections(table)) == ["Trials"]
    assert sections(table_of("bayes"))["Trials"] == [["job", "val_accuracy"]]


def test_trials_to_come_count_until_the_sweep_has_ended():
    trials = [trial(0, None, state="Stopped"), trial(1, None, state="Running")]
    assert lead(table_of("random", *trials, total=4)) == (
        "0 of 4 trials succeeded, 1 was stopped early; the sweep has not ended."
    )
    assert lead(table_of("random", *trials, total=4, is_final=True)) == (
        "0 of 2 trials succeeded, 1 was stopped early."
    )


@pytest.mark.parametrize("state", ["Running", "Stopped"])
def test_a_sweep_of_which_none_has_succeeded_yet_has_a_best_and_no_mean(state):
    table = table_of("random", trial(0, 0.7, state=state), trial(1, 0.9, state="Failed"))
    assert lead(table).endswith("; the sweep has not ended. Best val_accuracy 0.7 (digits-0).")
    assert list(sections(table)) == ["Trials"]


def test_a_table_travels_as_text_without_what_storage_knows():
    table = ablation()
    assert SweepTable.from_text(table.to_text()) == table
    with pytest.raises(ValueError, match="not a sweep's table"):
        SweepTable.from_text("bm9uZQ==")


def test_a_table_that_is_too_long_keeps_the_best_trials():
    stream = random.Random(0)
    trials = [trial(n, stream.random(), uid=str(stream.random())) for n in range(400)]
    table = table_of("random", *trials).fitting(4000)
    assert len(table.to_text()) <= 4000
    assert len(table.trials) + table.left_out == 400
    best = sorted((t.value for t in trials if t.value), reverse=True)
    assert max(t.value or 0 for t in table.trials) == best[0]
    assert f"{table.left_out} more trials had no room here." in lead(table)
