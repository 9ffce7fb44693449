from pathlib import Path

import pytest

HEAD = """\
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {name: digits}
spec:
"""

CASES = {
    "a misspelt key of the spec": (
        HEAD + "  recipe: classification\n  checkpont: {everySteps: 5}\n",
        5,
        "error: job.yaml:6:3: spec: unknown key 'checkpont'; did you mean 'checkpoint'?\n",
    ),
    "snake case": (
        HEAD + "  recipe: classification\n  run_policy: {maxRestarts: 1}\n",
        5,
        "error: job.yaml:6:3: spec: unknown key 'run_policy'; did you mean 'runPolicy'?\n",
    ),
    "a misspelt key deep down": (
        HEAD + "  recipe: classification\n  checkpoint:\n    keepBest: {metrc: loss}\n",
        5,
        "error: job.yaml:7:16: spec.checkpoint.keepBest: unknown key 'metrc'; did you mean "
        "'metric'?\n  | job.yaml:7:5: spec.checkpoint.keepBest.metric is required\n",
    ),
    "a misspelt key of the configuration": (
        HEAD + "  recipe: classification\n  config:\n    training: {learning_rte: 0.1}\n",
        5,
        "error: job.yaml:7:16: spec.config.training: unknown key 'learning_rte'; did you mean "
        "'learning_rate'?\n",
    ),
    "no nodes": (
        HEAD + "  recipe: classification\n  nodes: 0\n",
        5,
        "error: job.yaml:6:3: spec.nodes must be at least 1, not 0\n",
    ),
    "words for a number": (
        HEAD + "  recipe: classification\n  nodes: two\n",
        5,
        "error: job.yaml:6:3: spec.nodes must be a whole number, not 'two'\n",
    ),
    "true for a number": (
        HEAD + "  recipe: classification\n  nodes: true\n",
        5,
        "error: job.yaml:6:3: spec.nodes: must be a whole number\n",
    ),
    "a word that is not in the list": (
        HEAD + "  recipe: classification\n  runPolicy: {cleanPodPolicy: Some}\n",
        5,
        "error: job.yaml:6:15: spec.runPolicy.cleanPodPolicy must be one of 'All', 'Running', "
        "'None', not 'Some'\n",
    ),
    "both recipe and command": (
        HEAD + "  recipe: classification\n  command: [python]\n",
        5,
        "error: job.yaml:4:1: spec: set exactly one of recipe (a recipe of the trainer) and "
        "command (any PyTorch program in image)\n",
    ),
    "an unknown recipe": (
        HEAD + "  recipe: clasification\n",
        5,
        "error: job.yaml:5:3: spec.recipe: unknown recipe 'clasification'; did you mean "
        "'classification'?\n",
    ),
    "a foreign scheme": (
        HEAD + "  recipe: classification\n  storage: {uri: 'gs://bucket'}\n",
        5,
        "error: job.yaml:6:13: spec.storage.uri must start with s3:// or file:///, not "
        "'gs://bucket'\n",
    ),
    "broken YAML": (
        HEAD + "  recipe: [classification\n  nodes: 1\n",
        5,
        "error: job.yaml:6:8: not YAML: expected ',' or ']', but got ':'\n",
    ),
    "a key that is given twice": (
        HEAD + "  recipe: classification\n  config:\n    training: {epochs: 1}\n    training: {}\n",
        5,
        "error: job.yaml:8:5: spec.config.training is given twice; leave one of them\n",
    ),
    "no job at all": (
        "- a list\n",
        5,
        "error: job.yaml: holds no TrainingJob; it starts with 'apiVersion: "
        "trainyard.dev/v1alpha1'\n",
    ),
    "a capital letter in the name": (
        HEAD.replace("digits", "Digits") + "  recipe: classification\n",
        5,
        "error: job.yaml:3:12: metadata.name must be small letters, digits and dashes, from a "
        "letter, at most 50; not 'Digits'\n",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("command", [["run"], ["config", "check"]])
def test_a_mistake_in_a_file_is_pointed_at(trainyard, case: str, command: list[str]) -> None:
    text, code, message = CASES[case]
    Path("job.yaml").write_text(text, encoding="utf-8")
    ran = trainyard(*command, "job.yaml")
    assert (ran.code, ran.out, ran.err) == (code, "", message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["clasification"],
            "error: 'clasification' is neither a file nor a recipe; did you mean "
            "'classification'?\nhelp: trainyard recipes\n",
        ),
        (["no.yaml"], "error: no.yaml: no such file or directory\n"),
        (
            ["classification", "nodes=2"],
            "error: 'nodes=2' is a field of the job, not of its recipe\n"
            "help: write spec.nodes=2 instead\n",
        ),
        (
            ["classification", "epochs"],
            "error: 'epochs' is not of the form key=value\nhelp: trainyard run --help\n",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_a_usage_error(trainyard, arguments, message) -> None:
    ran = trainyard("run", *arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", message)


def test_an_override_of_an_unknown_key_is_rejected(trainyard) -> None:
    ran = trainyard("run", "classification", "training.epoch=2")
    assert ran.code == 5
    assert ran.err == (
        "error: classification: spec.overrides.training: unknown key 'epoch'; did you mean "
        "'epochs'?\n"
    )


def test_assignments_reach_the_recipe_and_the_job(trainyard) -> None:
    from trainyard.jobfile import Request, load_job

    request = Request(
        target="classification",
        assignments=["training.epochs=2", "spec.runPolicy.maxRestarts=1"],
        nodes=3,
    )
    assert load_job(request).manifest == {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "classification"},
        "spec": {
            "recipe": "classification",
            "overrides": ["training.epochs=2"],
            "runPolicy": {"maxRestarts": 1},
            "nodes": 3,
        },
    }
