"""What a TrainingSweep may say, and the sentence for what it may not."""

import math
from typing import Any

import pytest
from core_sweeps import METHODS, make_sweep
from pydantic import ValidationError

RANGE = {"distribution": "uniform", "min": 0, "max": 1}
FINITE = "values, min, max and step must be finite, not .inf or .nan"


def one(**parameter: Any) -> dict[str, Any]:
    return {"method": "random", "parameters": {"training.lr": parameter}}


REFUSALS = [
    (
        "values and a range",
        one(values=[1], **RANGE),
        "give each parameter either values, or a distribution with min and max",
    ),
    (
        "a parameter that may be nothing",
        one(),
        "give each parameter either values, or a distribution with min and max",
    ),
    (
        "a range without max",
        one(distribution="uniform", min=0),
        "a distribution needs min and max, and they need a distribution: uniform, log_uniform or "
        "int_uniform",
    ),
    (
        "bounds of values",
        one(values=[1], min=0, max=1),
        "a distribution needs min and max, and they need a distribution: uniform, log_uniform or "
        "int_uniform",
    ),
    (
        "an empty range",
        one(distribution="uniform", min=1, max=1),
        "the range is empty: min must be smaller than max; give a single value as values: [x]",
    ),
    (
        "log_uniform from 0",
        one(distribution="log_uniform", min=0, max=1),
        "log_uniform has no logarithm of 0 or less: min must be above 0, such as 1e-5, or take "
        "uniform",
    ),
    ("an infinite max", one(**RANGE | {"max": math.inf}), FINITE),
    ("a min that is no number", one(**RANGE | {"min": math.nan}), FINITE),
    ("an infinite step", one(**RANGE, step=math.inf), FINITE),
    ("values that are no numbers", one(values=[1, math.nan]), FINITE),
    ("an infinite value within a value", one(values=[[1, -math.inf]]), FINITE),
    (
        "an infinite override",
        {"method": "list", "trials": [{"name": "A0", "overrides": {"x.y": math.inf}}]},
        "'x.y' must be finite, not .inf or .nan",
    ),
    (
        "a value twice",
        one(values=["a", "b", "a"]),
        "each of values must be given once",
    ),
    (
        "a step past the range",
        one(distribution="int_uniform", min=1, max=3, step=5),
        "step leaves only min: it must be at most max - min; give a single value as values: [x]",
    ),
    (
        "minTrials of asha",
        {"method": "random", "earlyStopping": {"method": "asha", "minSteps": 5, "minTrials": 5}},
        "minTrials belongs to method median; asha takes minSteps and reductionFactor",
    ),
    (
        "reductionFactor of median",
        {
            "method": "random",
            "earlyStopping": {"method": "median", "minSteps": 5, "reductionFactor": 2},
        },
        "reductionFactor belongs to method asha; median takes minSteps and minTrials",
    ),
    (
        "int_uniform of fractions",
        one(distribution="int_uniform", min=0.5, max=2),
        "int_uniform takes whole numbers for min, max and step; take uniform for others",
    ),
    (
        "a step of 0",
        one(**RANGE, step=0),
        "step must be above 0, such as 0.1",
    ),
    (
        "a step of values",
        one(values=[1, 2], step=2),
        "step belongs to distribution uniform and int_uniform; leave it out, or take one of them",
    ),
    (
        "a step of log_uniform",
        one(distribution="log_uniform", min=1, max=9, step=2),
        "step belongs to distribution uniform and int_uniform; leave it out, or take one of them",
    ),
    (
        "values alone",
        {"method": "grid", "parameters": {"training.lr": [32, 64]}},
        "write {values: [32, 64]}, or a distribution with min and max",
    ),
    (
        "one value alone",
        {"method": "grid", "parameters": {"training.optimizer": "sgd"}},
        'write {values: ["sgd"]}, or a distribution with min and max',
    ),
    (
        "many values alone",
        {"method": "grid", "parameters": {"training.lr": [*range(99)]}},
        "write {values: [..]}, or a distribution with min and max",
    ),
    (
        "nothing at all",
        {"method": "grid", "parameters": {"training.lr": None}},
        "write values, or a distribution with min and max",
    ),
    (
        "a grid of a range",
        {"method": "grid", "parameters": {"training.lr": RANGE}},
        "method grid needs values, or a step, for each of its parameters; take random for a range",
    ),
    (
        "a search without parameters",
        {"method": "random", "parameters": None},
        "method grid, random and bayes need parameters, and folds and list take none",
    ),
    (
        "folds with parameters",
        {"method": "folds", "parameters": {"training.lr": RANGE}},
        "method grid, random and bayes need parameters, and folds and list take none",
    ),
    (
        "a list without trials",
        {"method": "list", "trials": None},
        "method list needs trials, and no other method takes them",
    ),
    (
        "two variants of one name",
        {"method": "list", "trials": [{"name": "A0"}, {"name": "A0"}]},
        "each name in trials must be given once",
    ),
    (
        "a cross-validation without folds",
        {"method": "folds", "folds": None},
        "method folds needs folds; only grid and list may have them as well",
    ),
    (
        "a random search over folds",
        {"method": "random", "folds": 3},
        "method folds needs folds; only grid and list may have them as well",
    ),
    (
        "a parameter that is the fold",
        {"method": "grid", "folds": 3, "parameters": {"data.fold": {"values": [0, 1]}}},
        "foldParameter is one of parameters, and the fold would take its place; leave one of them "
        "out",
    ),
    (
        "a search without end",
        {"method": "bayes", "maxTrials": None},
        "method random and bayes need maxTrials: they would never end",
    ),
    (
        "folds that are stopped early",
        {"method": "folds", "earlyStopping": {"method": "median", "minSteps": 5}},
        "earlyStopping would leave folds without a result; set either earlyStopping or folds",
    ),
    (
        "early stopping of a program",
        {
            "method": "random",
            "template": {"spec": {"command": ["train"]}},
            "earlyStopping": {"method": "median", "minSteps": 5},
        },
        "earlyStopping needs a recipe: a program given as command reports no curve",
    ),
    (
        "early stopping by another metric than the one that the template's best has",
        {
            "method": "random",
            "template": {
                "spec": {"recipe": "classification", "checkpoint": {"keepBest": {"metric": "f1"}}}
            },
            "earlyStopping": {"method": "asha", "minSteps": 5},
        },
        "earlyStopping judges by the metric that chooses the best checkpoint; leave "
        "template.spec.checkpoint.keepBest out, and it is the objective",
    ),
    (
        "early stopping by what is only known at the end",
        {
            "method": "random",
            "objective": {"metric": "test_accuracy", "goal": "maximize"},
            "earlyStopping": {"method": "asha", "minSteps": 5},
        },
        "earlyStopping needs an objective that is evaluated while a trial trains, such as "
        "val_accuracy",
    ),
    (
        "a fold that is replaced",
        {"method": "folds", "failurePolicy": {"replace": True}},
        "failurePolicy.replace belongs to random and bayes; raise "
        "template.spec.runPolicy.maxRestarts to have other trials tried again",
    ),
]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_taken_with_what_it_needs(method: str) -> None:
    assert make_sweep(method).spec.method == method


@pytest.mark.parametrize("method", ["grid", "list"])
def test_grid_and_list_may_run_over_folds(method: str) -> None:
    assert make_sweep(method, folds=3).spec.folds == 3


def test_grid_of_a_range_with_a_step_is_taken() -> None:
    sweep = make_sweep("grid", parameters={"training.lr": {**RANGE, "step": 0.5}})
    assert sweep.spec.parameters is not None
    assert sweep.spec.parameters["training.lr"].step == 0.5


@pytest.mark.parametrize(
    ("fields", "sentence"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        make_sweep(**fields)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {sentence}"]


@pytest.mark.parametrize("key", ["", "a b", "a=b", "a..b", ".a", "a.", "--lr", "lernräte"])
@pytest.mark.parametrize(
    "fields",
    [
        lambda key: {"method": "random", "parameters": {key: RANGE}},
        lambda key: {"method": "list", "trials": [{"name": "A0", "overrides": {key: 1}}]},
    ],
    ids=["parameter", "override"],
)
def test_what_is_no_key_is_refused(fields: Any, key: str) -> None:
    sentence = (
        f"'{key}' is no key; write letters, digits, '_' and '-', with dots between, such as "
        "training.learning_rate"
    )
    with pytest.raises(ValidationError) as caught:
        make_sweep(**fields(key))
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {sentence}"]


@pytest.mark.parametrize("key", ["lr", "training.learning_rate", "batch-size", "layers.0.width"])
def test_keys_of_configurations_and_flags_of_programs_are_taken(key: str) -> None:
    assert make_sweep("random", parameters={key: RANGE}).spec.parameters


def test_step_as_wide_as_the_range_is_taken_despite_rounding() -> None:
    assert make_sweep("random", parameters={"lr": {**RANGE, "min": 0.1, "max": 0.3, "step": 0.2}})


def test_true_and_1_are_two_values() -> None:
    assert make_sweep("grid", parameters={"lr": {"values": [1, True, "1"]}})


@pytest.mark.parametrize("parallelism", [0, 1001])
def test_parallelism_has_bounds(parallelism: int) -> None:
    with pytest.raises(ValidationError):
        make_sweep(parallelism=parallelism)
