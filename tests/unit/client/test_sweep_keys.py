"""Two keys of a sweep that set one are told before one of them is lost."""

import re
from typing import Any

import pytest
from core_sweeps import make_spec, write_sweep_file

BOTH = "both set training.learning_rate; write one of them"
VALUES = {"values": [0.1, 0.2]}


def refusal(trainyard: Any, spec: dict[str, Any]) -> str:
    """The sentence, without the place in the file."""
    ran = trainyard("config", "check", write_sweep_file(spec))
    assert ran.code == 5, ran.err
    return re.sub(r"^error: sweep\.yaml:\d+:\d+: ", "", ran.err).rstrip()


def grid(*keys: str, **fields: Any) -> dict[str, Any]:
    return make_spec("grid", parameters=dict.fromkeys(keys, VALUES), **fields)


def of_recipe(name: str, *keys: str) -> dict[str, Any]:
    template = {"spec": make_spec()["template"]["spec"] | {"recipe": name}}
    return grid(*keys, template=template, objective={"metric": "val_loss", "goal": "minimize"})


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            grid("lr", "training.learning_rate"),
            f"spec.parameters: 'lr' and 'training.learning_rate' {BOTH}",
        ),
        (grid("lr", "training.lr"), f"spec.parameters: 'lr' and 'training.lr' {BOTH}"),
        (
            grid("training", "training.batch_size"),
            "spec.parameters: 'training' and 'training.batch_size' both set training.batch_size; "
            "write one of them",
        ),
        (
            make_spec(
                "list",
                trials=[
                    {"name": "A0", "overrides": {"lr": 0.1}},
                    {"name": "A1", "overrides": {"lr": 0.1, "training.learning_rate": 0.2}},
                ],
            ),
            f"spec.trials.1.overrides: 'lr' and 'training.learning_rate' {BOTH}",
        ),
        (
            grid("fold", folds=2),
            "spec.parameters.fold: sets data.fold, and folds do; leave one of them out",
        ),
        (
            make_spec("list", trials=[{"name": "A0", "overrides": {"training.seed": 1}}])
            | {"folds": 2, "foldParameter": "training.seed"},
            "spec.trials.0.overrides.training.seed: sets training.seed, and folds do; leave one of "
            "them out",
        ),
    ],
)
def test_two_keys_that_set_one(trainyard, spec: dict[str, Any], sentence: str) -> None:
    assert refusal(trainyard, spec) == sentence


def test_short_name_of_one_key_leaves_room_beside_it(trainyard) -> None:
    spec = of_recipe("skin-lesion", "model", "model.dropout_rate")
    spec["parameters"]["model"] = {"values": ["efficientnet", "resnet"]}
    ran = trainyard("config", "check", write_sweep_file(spec))
    assert (ran.code, ran.err) == (0, "sweep.yaml: sweep 'digits' is valid, of 4 trials\n")


def test_flags_of_a_program_are_its_own_affair(trainyard) -> None:
    spec = grid("model", "model.depth", template={"spec": {"command": ["train"]}})
    assert trainyard("config", "check", write_sweep_file(spec)).code == 0


RANGES = [
    ({"distribution": "int_uniform", "min": 0, "max": 64}, "min: must be at least 1; got 0"),
    (
        {"distribution": "int_uniform", "min": 0, "max": 64, "step": 3},
        "min: must be at least 1; got 0",
    ),
    ({"values": [*range(1, 80), 0]}, " must be at least 1; got 0"),
]


@pytest.mark.parametrize(("parameter", "sentence"), RANGES, ids=["range", "steps", "values"])
@pytest.mark.parametrize("method", ["random", "bayes"])
def test_end_of_a_range_is_checked_though_no_known_trial_has_it(
    trainyard, method: str, parameter: dict[str, Any], sentence: str
) -> None:
    spec = make_spec(method, parameters={"training.batch_size": parameter}, maxTrials=2)
    joint = "." if "min" in parameter else ":"
    assert refusal(trainyard, spec) == f"spec.parameters.training.batch_size{joint}{sentence}"


def test_upper_end_of_a_range_is_checked_too(trainyard) -> None:
    momentum = {"distribution": "uniform", "min": 0.5, "max": 1}
    spec = make_spec("bayes", parameters={"training.optimizer.momentum": momentum})
    assert refusal(trainyard, spec) == (
        "spec.parameters.training.optimizer.momentum.max: must be at least 0 and less than 1; got "
        "1.0"
    )


def test_end_that_no_key_alone_explains_is_told_with_its_settings(trainyard) -> None:
    template = {"spec": make_spec()["template"]["spec"] | {"recipe": "mar-gan"}}
    sizes = {"values": [512, 1024, 256, 128, 64]}
    objective = {"metric": "val_psnr", "goal": "maximize"}
    fields = {"parameters": {"data.patch_size": sizes}, "objective": objective, "maxTrials": 1}
    spec = make_spec("random", template=template, **fields)
    ran = trainyard("config", "check", write_sweep_file(spec))
    assert ran.err.startswith("error: sweep.yaml: a trial (data.patch_size=64): spec.config: ")
