"""What is wrong with a sweep's file is told before anything runs."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_sweeps import make_spec, write_sweep_file

from trainyard.jobfile import Request
from trainyard.sweepfile import load_sweep

UNIFORM = {"distribution": "uniform"}
RANGE = UNIFORM | {"min": 0.1, "max": 0.2}


def refusal(trainyard: Any, spec: dict[str, Any], **fields: Any) -> str:
    """The sentence, without the place in the file."""
    ran = trainyard("run", write_sweep_file(spec, **fields), "--dry-run")
    assert ran.code == 5, ran.err
    found = re.fullmatch(r"error: sweep\.yaml:\d+:\d+: (.*)\n", ran.err, re.DOTALL)
    assert found, ran.err
    return found[1]


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("val_acuracy", "did you mean 'val_accuracy'?"),
        ("test_f1", "did you mean 'test_macro_f1'?"),
        ("psnr", "known are 'val_loss', 'val_accuracy', 'val_macro_f1', 'val_epsilon'"),
    ],
)
def test_objective_that_the_recipe_does_not_report(trainyard, metric: str, sentence: str) -> None:
    spec = make_spec(objective={"metric": metric, "goal": "maximize"})
    assert refusal(trainyard, spec) == (
        f"spec.objective.metric: recipe classification reports no '{metric}'; {sentence}"
    )


@pytest.mark.parametrize("metric", ["val_macro_f1", "accuracy", "test_accuracy", "train_loss"])
def test_objective_that_the_recipe_reports_or_may_report(trainyard, metric: str) -> None:
    spec = make_spec(objective={"metric": metric, "goal": "maximize"})
    assert trainyard("run", write_sweep_file(spec), "--dry-run").code == 0


def test_objective_of_a_program_is_not_known_beforehand(trainyard) -> None:
    template = {"spec": {"command": ["train"]}}
    spec = make_spec(template=template, objective={"metric": "x", "goal": "minimize"})
    assert trainyard("run", write_sweep_file(spec), "--dry-run").code == 0


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            make_spec(paralelism=2),
            "spec: unknown key 'paralelism'; did you mean 'parallelism'?",
        ),
        (
            make_spec(template=make_spec()["template"] | {"paralelism": 2}),
            "spec.template: unknown key 'paralelism'; did you mean 'spec.parallelism'?",
        ),
        (
            make_spec(template={"spec": make_spec()["template"]["spec"] | {"paralelism": 2}}),
            "spec.template.spec: unknown key 'paralelism'; did you mean 'spec.parallelism'?",
        ),
        (
            make_spec("grid", parameters={"training.epochs": {"values": []}}),
            "spec.parameters.training.epochs.values must have at least 1 entry, not []",
        ),
        (
            make_spec("grid", parameters={"training.epochs": {"value": [1]}}),
            "spec.parameters.training.epochs: unknown key 'value'; did you mean 'values'?",
        ),
        (
            make_spec("grid", parameters={"a b": {"values": [1]}}),
            "spec.parameters: 'a b' is no key; write letters, digits, '_' and '-', with dots "
            "between, such as training.learning_rate",
        ),
        (
            make_spec("grid", parameters={"training.learning_rate": {"values": [math.nan]}}),
            "spec.parameters.training.learning_rate: values, min, max and step must be finite, not "
            ".inf or .nan",
        ),
        (
            make_spec("list", trials=[{"name": "A0", "overrides": {"x": math.inf}}]),
            "spec.trials.0.overrides: 'x' must be finite, not .inf or .nan",
        ),
        (
            make_spec("random", parameters={"training.seed": {"values": [1]}}, maxTrials=True),
            "spec.maxTrials: must be a whole number",
        ),
        (
            make_spec("random", parameters={"training.seed": RANGE | {"min": False}}, maxTrials=2),
            "spec.parameters.training.seed.min: must be a number",
        ),
        (
            make_spec(objective={"metric": "", "goal": "maximize"}),
            "spec.objective.metric must not be empty",
        ),
        (
            make_spec("list", trials=[{"name": "A0", "override": {}}]),
            "spec.trials.0: unknown key 'override'; did you mean 'overrides'?",
        ),
        (
            make_spec("grid", parameters={"training.learning_rte": {"values": [1]}}),
            "spec.parameters.training.learning_rte: unknown key 'learning_rte'; did you mean "
            "'learning_rate'?",
        ),
        (
            make_spec("grid", parameters={"lrr": {"values": [1]}}),
            "spec.parameters.lrr: unknown key 'lrr'; did you mean 'lr'?",
        ),
        (
            make_spec("grid", parameters={"training.learning_rate": {"values": [0.1, -1]}}),
            "spec.parameters.training.learning_rate: must be more than 0; got -1",
        ),
        (
            make_spec(
                "list",
                trials=[
                    {"name": "A0"},
                    {"name": "A1", "overrides": {"training.epochs": 0}},
                ],
            ),
            "spec.trials.1.overrides.training.epochs: must be at least 1; got 0",
        ),
        (
            make_spec(
                template={"spec": make_spec()["template"]["spec"] | {"recipe": "csr"}},
                objective={"metric": "val_auc", "goal": "maximize"},
            ),
            "spec.folds: recipe csr has no 'data.fold'; with foldParameter: training.seed folds "
            "are repeats with other seeds",
        ),
    ],
)
def test_mistake_is_told_where_it_stands(trainyard, spec: dict[str, Any], sentence: str) -> None:
    assert refusal(trainyard, spec) == sentence


def test_setting_that_a_section_refuses_is_told_with_its_reason(trainyard) -> None:
    spec = make_spec("grid", parameters={"data.fold": {"values": [0, 3]}})
    spec["template"]["spec"] = spec["template"]["spec"] | {"config": {"data": {"folds": 2}}}
    assert refusal(trainyard, spec) == (
        "spec.parameters.data.fold: fold 3 does not exist; folds: 2 are numbered from 0; got "
        "{'augmentation': {}, 'folds': 2, 'fold': 3}"
    )


def test_setting_that_no_key_alone_explains_is_told_with_its_trial(trainyard) -> None:
    template = {"spec": make_spec()["template"]["spec"] | {"recipe": "mar-gan"}}
    spec = make_spec("grid", template=template, parameters={"data.patch_size": {"values": [32]}})
    ran = trainyard("run", write_sweep_file(spec), "--dry-run")
    assert ran.code == 5
    assert ran.err.startswith(
        "error: sweep.yaml: trial 'digits-0' (data.patch_size=32): spec.config: data.patch_size is "
        "32; 3 scales need at least 128; got {"
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"config": {"training": {"learning_rte": 1}}},
            "15:11: spec.template.spec.config.training: unknown key 'learning_rte'; did you mean "
            "'learning_rate'?",
        ),
        (
            {"config": {"training": {"epochs": 0}}},
            "15:11: spec.template.spec.config.training.epochs: must be at least 1; got 0",
        ),
        (
            {"storage": {"uri": "ftp://x"}},
            "15:9: spec.template.spec.storage.uri must start with s3:// or file:///, not 'ftp://x'",
        ),
    ],
)
def test_mistake_in_the_template_is_told_where_it_stands(trainyard, fields, sentence) -> None:
    template = {"spec": make_spec()["template"]["spec"] | fields}
    ran = trainyard("config", "check", write_sweep_file(make_spec(template=template)))
    assert (ran.code, ran.err) == (5, f"error: sweep.yaml:{sentence}\n")


def test_config_check_takes_a_sweep(trainyard) -> None:
    ran = trainyard("config", "check", write_sweep_file(make_spec()))
    assert (ran.code, ran.err) == (0, "sweep.yaml: sweep 'digits' is valid, of 3 trials\n")
    ran = trainyard("config", "check", write_sweep_file(make_spec(paralelism=2)))
    assert ran.code == 5


@pytest.mark.parametrize("kind", ["TrainingSweep", "TrainingJob"])
def test_metadata_that_kubernetes_does_not_have_is_refused(trainyard, kind: str) -> None:
    spec = make_spec() if kind == "TrainingSweep" else {"command": ["train"]}
    metadata = {"name": "digits", "lables": {"team": "vision"}}
    assert refusal(trainyard, spec, kind=kind, metadata=metadata) == (
        "metadata: unknown key 'lables'; did you mean 'labels'?"
    )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "spec.paralelism=3",
            "'spec.paralelism=3': a sweep has no field 'spec.paralelism'; did you mean "
            "'spec.parallelism'?",
        ),
        (
            "spec.nodez=2",
            "'spec.nodez=2': a sweep has no field 'spec.nodez'; did you mean 'spec.nodes'?",
        ),
    ],
)
def test_field_that_neither_sweep_nor_job_has(trainyard, word: str, message: str) -> None:
    ran = trainyard("run", write_sweep_file(make_spec()), "--dry-run", word)
    assert (ran.code, ran.err) == (2, f"error: {message}\n")


def test_fields_of_the_sweep_and_of_its_jobs_are_set_by_their_paths(trainyard) -> None:
    words = ("spec.objective.metric=val_loss", "spec.objective.goal=minimize", "spec.nodes=2")
    ran = trainyard("run", write_sweep_file(make_spec()), "--dry-run", "-o", "json", *words)
    [first, *_] = json.loads(ran.out)
    assert first["spec"]["checkpoint"]["keepBest"] == {"metric": "val_loss", "mode": "min"}
    assert first["spec"]["nodes"] == 2


def test_path_of_the_file_sets_the_template(trainyard) -> None:
    words = (
        "spec.template.spec.nodes=3",
        "spec.template.spec.template.spec.hostNetwork=true",
        "spec.template.metadata.labels.team=vision",
        "spec.template.spec.runPolicy.activeDeadlineSeconds=60",
        "spec.runPolicy.activeDeadlineSeconds=600",
        "spec.runPolicy.maxRestarts=2",
    )
    found = load_sweep(Request(target=str(write_sweep_file(make_spec())), assignments=words))
    assert found.manifest["spec"] == make_spec(
        template={
            "metadata": {"labels": {"team": "vision"}},
            "spec": make_spec()["template"]["spec"]
            | {
                "nodes": 3,
                "template": {"spec": {"hostNetwork": True}},
                "runPolicy": {"activeDeadlineSeconds": 60, "maxRestarts": 2},
            },
        },
        runPolicy={"activeDeadlineSeconds": 600},
    )


def test_path_of_the_file_sets_the_template_as_a_flag_too(trainyard) -> None:
    words = ("--dry-run", "-o", "json", "--", "--spec.template.spec.nodes", "3")
    ran = trainyard("run", write_sweep_file(make_spec()), *words)
    assert [trial["spec"]["nodes"] for trial in json.loads(ran.out)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["training.learning_rate.min=0.01"], {"training.learning_rate": RANGE | {"min": 0.01}}),
        (
            ["training.seed={values: [1, 2]}"],
            {"training.learning_rate": RANGE, "training.seed": {"values": [1, 2]}},
        ),
        (
            ["model.min={values: [1, 2]}"],
            {"training.learning_rate": RANGE, "model.min": {"values": [1, 2]}},
        ),
    ],
)
def test_parameters_are_set_by_their_keys_with_dots(words, expected: dict[str, Any]) -> None:
    template = {"spec": {"command": ["train"], "storage": {"uri": "s3://bucket/sweeps"}}}
    parameters = {"training.learning_rate": RANGE}
    spec = make_spec("random", parameters=parameters, maxTrials=2, template=template)
    typed = [f"spec.parameters.{word}" for word in words]
    found = load_sweep(Request(target=str(write_sweep_file(spec)), assignments=typed))
    assert found.manifest["spec"]["parameters"] == expected


def test_mistake_in_a_parameter_that_was_typed_is_told_with_its_key(trainyard) -> None:
    spec = make_spec("random", parameters={"training.learning_rate": RANGE}, maxTrials=2)
    word = "spec.parameters.training.learning_rate.min=-1"
    ran = trainyard("run", write_sweep_file(spec), "--dry-run", word)
    assert (ran.code, ran.err.partition(": ")[2].partition(": ")[2]) == (
        5,
        "spec.parameters.training.learning_rate.min: must be more than 0; got -1.0\n",
    )


def test_misspelt_path_of_the_file_is_refused(trainyard) -> None:
    ran = trainyard("run", write_sweep_file(make_spec()), "--dry-run", "spec.template.spec.nodez=3")
    assert ran.code == 5
    assert ran.err.endswith(": spec.template.spec: unknown key 'nodez'; did you mean 'nodes'?\n")


def test_template_of_the_job_beside_a_guides_file_is_its_pods(trainyard) -> None:
    guide = {
        "method": "grid",
        "metric": {"name": "val_f1_score", "goal": "maximize"},
        "parameters": {"training.learning_rate": {"values": [0.1]}},
    }
    Path("guide.yaml").write_text(yaml.safe_dump(guide))
    request = Request(target="skin-lesion", assignments=("spec.template.spec.hostNetwork=true",))
    found = load_sweep(request, Path("guide.yaml"))
    assert found.manifest["spec"]["template"]["spec"]["template"] == {"spec": {"hostNetwork": True}}


@pytest.mark.parametrize("name", ["My_S", "../esc", "1st", "a-", "a" * 44])
@pytest.mark.parametrize("is_typed", [True, False])
def test_name_that_a_cluster_would_refuse(trainyard, name: str, is_typed: bool) -> None:
    path = write_sweep_file(make_spec(), metadata={"name": "digits" if is_typed else name})
    ran = trainyard("run", path, *(["--name", name] if is_typed else []))
    assert (ran.code, ran.err) == (
        5,
        "error: sweep.yaml:4:3: metadata.name must be small letters, digits and dashes, from a "
        f"letter, at most 43, for its trials' names are longer; not '{name}'\n",
    )
    assert not Path("state").exists()


def test_longest_name_has_room_for_its_trials(trainyard) -> None:
    ran = trainyard("run", write_sweep_file(make_spec()), "--dry-run", "--name", "a" * 43)
    assert ran.out.splitlines()[2].startswith(f"create trainingjob/{'a' * 43}-2 ")


def test_key_that_a_sweep_has_twice_is_refused(trainyard) -> None:
    file = write_sweep_file(make_spec())
    file.write_text(file.read_text() + "  maxTrials: 2\n  maxTrials: 3\n")
    line = len(file.read_text().splitlines())
    ran = trainyard("run", "sweep.yaml", "--dry-run")
    told = f"sweep.yaml:{line}:3: spec.maxTrials is given twice; leave one of them"
    assert (ran.code, ran.err) == (5, f"error: {told}\n")


def test_flag_among_the_values_of_a_number_is_refused(trainyard) -> None:
    parameters = {"training.epochs": {"values": [3, True]}}
    write_sweep_file(make_spec(method="grid", folds=None, parameters=parameters))
    ran = trainyard("run", "sweep.yaml", "--dry-run")
    assert (ran.code, ran.err.partition(": ")[2].partition(": ")[2]) == (
        5,
        "spec.parameters.training.epochs: must be a whole number; got true\n",
    )


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"training.learning_rate": UNIFORM | {"min": -1, "max": 1}},
            "spec.parameters.training.learning_rate.min: must be more than 0; got -1.0",
        ),
        (
            {
                "training.batch_size": UNIFORM | {"min": 16, "max": 64},
                "training.learning_rate": UNIFORM | {"min": -1, "max": 1},
            },
            "spec.parameters.training.learning_rate.min: must be more than 0; got -1.0",
        ),
        (
            {"training.batch_size": UNIFORM | {"min": 16, "max": 64}},
            "spec.parameters.training.batch_size: must be a whole number; write distribution: "
            "int_uniform, or values",
        ),
    ],
)
def test_range_is_refused_without_a_number_that_nobody_wrote(
    trainyard, parameters: dict[str, Any], sentence: str
) -> None:
    spec = make_spec("random", parameters=parameters, maxTrials=8)
    assert refusal(trainyard, spec) == sentence
