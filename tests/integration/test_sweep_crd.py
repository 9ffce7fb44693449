"""What the API server itself says of a sweep, with no operator and no webhook."""

from typing import Any

import pytest
from core_sweeps import make_spec
from integration.api_server import ApiServer, Namespace

SWEEPS = "trainingsweeps"
INVALID = 'TrainingSweep.trainyard.dev "digits" is invalid: '
RANGE = {"distribution": "uniform", "min": 0, "max": 1}


def make(method: str = "folds", **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingSweep",
        "metadata": {"name": "digits"},
        "spec": make_spec(method, **fields),
    }


def one(**parameter: Any) -> dict[str, Any]:
    return make("random", parameters={"training.lr": parameter})


def of_parameter(sentence: str) -> str:
    return f'{INVALID}spec.parameters[training.lr]: Invalid value: "object": {sentence}'


def of_spec(sentence: str) -> str:
    return f'{INVALID}spec: Invalid value: "object": {sentence}'


REFUSALS = [
    (
        "an empty range",
        one(distribution="uniform", min=1, max=1),
        of_parameter(
            "the range is empty: min must be smaller than max; give a single value as values: [x]."
        ),
    ),
    (
        "log_uniform from 0",
        one(distribution="log_uniform", min=0, max=1),
        of_parameter(
            "log_uniform has no logarithm of 0 or less: min must be above 0, such as 1e-5, or "
            "take uniform."
        ),
    ),
    (
        "int_uniform of fractions",
        one(distribution="int_uniform", min=0.5, max=2),
        of_parameter(
            "int_uniform takes whole numbers for min, max and step; take uniform for others."
        ),
    ),
    (
        "a step of values",
        one(values=[1, 2], step=2),
        of_parameter(
            "step belongs to distribution uniform and int_uniform; leave it out, or take one of "
            "them."
        ),
    ),
    ("a step of 0", one(**RANGE, step=0), of_parameter("step must be above 0, such as 0.1.")),
    (
        "a parameter that is the fold",
        make("grid", folds=2, parameters={"data.fold": {"values": [0, 1]}}),
        of_spec(
            "foldParameter is one of parameters, and the fold would take its place; leave one of "
            "them out."
        ),
    ),
    (
        "a step past the range",
        one(distribution="int_uniform", min=1, max=3, step=5),
        of_parameter(
            "step leaves only min: it must be at most max - min; give a single value as values: "
            "[x]."
        ),
    ),
    (
        "minTrials of asha",
        make("random", earlyStopping={"method": "asha", "minSteps": 5, "minTrials": 5}),
        f'{INVALID}spec.earlyStopping: Invalid value: "object": minTrials belongs to method median;'
        " asha takes minSteps and reductionFactor.",
    ),
    (
        "parallelism of 0",
        make(parallelism=0),
        INVALID + "spec.parallelism: Invalid value: 0: spec.parallelism in body should be greater "
        "than or equal to 1",
    ),
    (
        "no values",
        one(values=[]),
        INVALID + "spec.parameters.training.lr.values: Invalid value: 0: "
        "spec.parameters.training.lr.values in body should have at least 1 items",
    ),
    (
        "early stopping by the template's own best",
        make(
            "random",
            template={
                "spec": {"recipe": "classification", "checkpoint": {"keepBest": {"metric": "f1"}}}
            },
            earlyStopping={"method": "asha", "minSteps": 5},
        ),
        of_spec(
            "earlyStopping judges by the metric that chooses the best checkpoint; leave "
            "template.spec.checkpoint.keepBest out, and it is the objective."
        ),
    ),
    (
        "early stopping by what the end brings",
        make(
            "random",
            objective={"metric": "test_accuracy", "goal": "maximize"},
            earlyStopping={"method": "asha", "minSteps": 5},
        ),
        of_spec(
            "earlyStopping needs an objective that is evaluated while a trial trains, such as "
            "val_accuracy."
        ),
    ),
    (
        "a search without end",
        make("random", maxTrials=None),
        of_spec("method random and bayes need maxTrials: they would never end."),
    ),
    (
        "a grid of a range",
        make("grid", parameters={"training.lr": RANGE}),
        of_spec(
            "method grid needs values, or a step, for each of its parameters; take random for a "
            "range."
        ),
    ),
    (
        "folds with parameters",
        make("folds", parameters={"training.lr": RANGE}),
        of_spec("method grid, random and bayes need parameters, and folds and list take none."),
    ),
    (
        "a template that runs nothing",
        make(template={"spec": {"nodes": 1}}),
        f'{INVALID}spec.template.spec: Invalid value: "object": set exactly one of recipe (a recipe'
        " of the trainer) and command (any PyTorch program in image).",
    ),
    (
        "two variants of one name",
        make("list", trials=[{"name": "A0"}, {"name": "A0"}]),
        INVALID + 'spec.trials[1]: Duplicate value: {"name":"A0"}',
    ),
]


@pytest.mark.parametrize(
    ("sweep", "sentence"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_bad_sweep_is_refused_with_a_sentence(
    namespace: Namespace, sweep: dict[str, Any], sentence: str
) -> None:
    assert namespace.of(SWEEPS).refusal(sweep) == sentence


@pytest.mark.parametrize("method", ["grid", "random", "bayes", "folds", "list"])
def test_each_method_is_taken(namespace: Namespace, method: str) -> None:
    stored = namespace.of(SWEEPS).create(make(method))["spec"]
    assert (stored["method"], stored["parallelism"], stored["seed"]) == (method, 1, 0)


def test_values_of_every_kind_are_kept(namespace: Namespace) -> None:
    values = [1, 2.5, "b0", True, [32, 64]]
    stored = namespace.of(SWEEPS).create(one(values=values))["spec"]
    assert stored["parameters"] == {"training.lr": {"values": values}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 1}, 'spec.seed: Invalid value: "integer": seed cannot be changed.'),
        (
            {"objective": {"goal": "minimize"}},
            'spec.objective: Invalid value: "object": objective cannot be changed: trials would be '
            "compared by two measures; create another sweep.",
        ),
    ],
)
def test_what_would_mix_results_cannot_be_changed(
    api: ApiServer, namespace: Namespace, change: dict[str, Any], sentence: str
) -> None:
    sweeps = namespace.of(SWEEPS)
    sweeps.create(make())
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = api.send("PATCH", f"{sweeps.jobs}/digits", {"spec": change}, headers=headers)
    assert answer.json()["message"] == INVALID + sentence


def test_kubectl_get_prints_these_columns(api: ApiServer, namespace: Namespace) -> None:
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = api.must("GET", namespace.of(SWEEPS).jobs, headers=accept)
    columns = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    shown = ["Name", "Phase", "Method", "Trials", "Running", "Best", "Mean", "Age"]
    wide = ["Reason", "Objective", "Failed", "Stopped"]
    assert columns == [(name, 0) for name in shown] + [(name, 1) for name in wide]
