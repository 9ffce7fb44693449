"""What a TrainingJob accepts, and what it says to the rest."""

import pytest
from core_objects import make_job
from pydantic import ValidationError

from trainyard_operator.api import JobSpec, ObjectMeta, TrainingJob

RECIPE = {"recipe": "classification"}
XOR = (
    "set exactly one of recipe (a recipe of the trainer) and command (any PyTorch program in image)"
)
BELONGS = (
    "config, configFrom and overrides belong to a recipe; give a command its arguments in args"
)
COMMAND = {"command": ["python"]}
RULES = {
    "neither": ({}, XOR),
    "both": (RECIPE | COMMAND, XOR),
    "config of a command": (COMMAND | {"config": {"a": 1}}, BELONGS),
    "configFrom of a command": (
        COMMAND | {"configFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}},
        BELONGS,
    ),
    "overrides of a command": (COMMAND | {"overrides": ["a=1"]}, BELONGS),
    "elastic upside down": (
        RECIPE | {"elastic": {"minNodes": 4, "maxNodes": 1}},
        "minNodes must not exceed maxNodes",
    ),
    "relative mount path": (
        RECIPE | {"dataset": {"mountPath": "data"}},
        "mountPath must be absolute, such as /data",
    ),
}


@pytest.mark.parametrize(("spec", "message"), RULES.values(), ids=RULES)
def test_a_broken_rule_is_told_in_words(spec, message):
    with pytest.raises(ValidationError) as error:
        JobSpec.model_validate(spec)
    assert [finding["msg"] for finding in error.value.errors()] == [f"Value error, {message}"]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"node": 2}, ("node",)),
        ({"nodes": 0}, ("nodes",)),
        ({"nodes": 1025}, ("nodes",)),
        ({"runPolicy": {"suspended": True}}, ("runPolicy", "suspended")),
        ({"runPolicy": {"maxRestarts": -1}}, ("runPolicy", "maxRestarts")),
        ({"runPolicy": {"cleanPodPolicy": "Sometimes"}}, ("runPolicy", "cleanPodPolicy")),
        ({"checkpoint": {"resumeFrom": {"job": "a", "checkpoint": "old"}}},
         ("checkpoint", "resumeFrom", "checkpoint")),
        ({"storage": {"uri": "s3://b", "compat": "new"}}, ("storage", "compat")),
    ],
)  # fmt: skip
def test_a_wrong_field_is_found_where_it_stands(spec, where):
    with pytest.raises(ValidationError) as error:
        JobSpec.model_validate(RECIPE | spec)
    assert [finding["loc"] for finding in error.value.errors()] == [where]


def test_async_keeps_its_name_although_python_has_the_word():
    spec = JobSpec.model_validate(RECIPE | {"checkpoint": {"async": False}})
    assert spec.checkpoint.async_ is False
    assert spec.checkpoint.to_dict() == {"keepLast": 3, "async": False}


def test_fields_are_read_and_written_in_the_apis_spelling():
    raw = RECIPE | {
        "processesPerNode": 2,
        "runPolicy": {"maxRestarts": 1, "restartBackoff": {"initialSeconds": 1}},
        "checkpoint": {"keepBest": {"metric": "froc_score"}},
    }
    written = JobSpec.model_validate(raw).to_dict()
    assert JobSpec.model_validate(written) == JobSpec.model_validate(raw)
    assert written["runPolicy"]["restartBackoff"] == {"initialSeconds": 1, "maxSeconds": 300}
    assert "elastic" not in written


@pytest.mark.parametrize(
    ("limits", "ranks"),
    [({"nvidia.com/gpu": "4"}, 4), ({"nvidia.com/gpu": "two"}, 1), ({"nvidia.com/gpu": 0}, 1)],
)
def test_auto_means_the_gpus_or_one(limits, ranks):
    assert make_job(resources={"limits": limits}).spec.ranks_per_node == ranks


def test_metadata_that_decisions_do_not_need_is_left_out():
    metadata = {"name": "a", "uid": "u", "generation": 3, "managedFields": [{}]}
    job = TrainingJob.model_validate({"metadata": metadata, "spec": RECIPE})
    assert job.metadata == ObjectMeta(name="a", uid="u", generation=3)


def test_a_job_is_immutable():
    with pytest.raises(ValidationError):
        make_job().spec.nodes = 3
