"""What the operator says of sweeps that the API server lets pass and that cannot go on."""

import json
from typing import Any

import pytest
from core_sweeps import make_spec
from integration.api_server import Namespace
from integration.conftest import Operator

from trainyard_operator.sweep.faults import MIXED

STORAGE = {"uri": "s3://bucket/sweeps"}
PROGRAM = {"command": ["python", "train.py"], "image": "registry.example/mine:1"}


def make_sweep(name: str = "digits", method: str = "folds", **fields: Any) -> dict[str, Any]:
    template = {"spec": {**PROGRAM, "storage": fields.pop("storage", STORAGE)}}
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingSweep",
        "metadata": {"name": name},
        "spec": make_spec(method, template=template, **fields),
    }


@pytest.fixture
def sweeps(namespace: Namespace) -> Namespace:
    return namespace.of("trainingsweeps")


def wait_for_condition(sweeps: Namespace, name: str, type_: str, status: str) -> str:
    """Its message, once the condition says so."""
    sweeps.wait(
        lambda: sweeps.condition(name, type_).get("status") == status, f"{name}: {type_} {status}"
    )
    message: str = sweeps.condition(name, type_)["message"]
    return message


def end_first_pod(namespace: Namespace, trial: str, code: int, said: dict[str, Any]) -> None:
    """The trial's only pod runs, and ends with these last words."""
    pod = f"{trial}-master-0"
    namespace.wait(lambda: pod in namespace.pods(), f"pod {pod}")
    namespace.start_pod(pod)
    namespace.end_pod(pod, code, json.dumps({"exit_code": code, **said}))


def test_sweeps_of_one_storage_uri_lie_beside_each_other(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    places = {}
    for name in ("digits", "others"):
        uid = sweeps.create(make_sweep(name))["metadata"]["uid"]
        namespace.wait(lambda trial=f"{name}-0": namespace.exists(trial), f"trial {name}-0")
        places[uid] = namespace.job(f"{name}-0")["spec"]["storage"]["uri"]
    for (uid, place), name in zip(places.items(), ("digits", "others"), strict=True):
        assert place == f"s3://bucket/sweeps/{namespace.name}/{name}/{uid}/trials"
    for name in ("digits", "others"):
        assert sweeps.condition(name, "Accepted")["status"] == "True"


def test_sweep_whose_storage_lies_within_anothers_is_refused_until_it_is_gone(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    uid = sweeps.create(make_sweep())["metadata"]["uid"]
    within = {"uri": f"s3://bucket/sweeps/{namespace.name}/digits/{uid}/"}
    sweeps.create(make_sweep("rival", storage=within))
    assert wait_for_condition(sweeps, "rival", "Accepted", "False") == (
        "spec.template.spec.storage.uri: lies within the storage of TrainingSweep "
        f"'{namespace.name}/digits'; give each sweep a prefix outside of the other's."
    )
    assert sweeps.status("rival")["phase"] == "Pending"
    assert not namespace.exists("rival-0")
    assert namespace.exists("digits-0")
    sweeps.delete("digits")
    sweeps.touch("rival")
    namespace.wait(lambda: namespace.exists("rival-0"), "rival-0")


def test_change_that_would_mix_results_begins_no_trial_until_it_is_taken_back(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    sweeps.create(make_sweep())
    namespace.wait_for_pods("digits-0-master-0")
    sweeps.edit("digits", {"folds": 5})
    assert wait_for_condition(sweeps, "digits", "Accepted", "False") == f"spec: {MIXED}"
    report = {"attempt": 1, "time": "2026-01-01T12:00:00Z"}
    metrics = {"step": 1, "steps": 1, "metrics": {"val_accuracy": "0.5"}}
    said = {"message": "Done.", "report": report | {"progress": metrics}}
    end_first_pod(namespace, "digits-0", 0, said)
    namespace.wait_for_phase("digits-0", "Succeeded")
    sweeps.wait(lambda: sweeps.status("digits")["counts"]["succeeded"] == 1, "counted")
    assert not namespace.exists("digits-1")
    sweeps.edit("digits", {"folds": 3})
    namespace.wait(lambda: namespace.exists("digits-1"), "digits-1")
    assert sweeps.condition("digits", "Accepted")["status"] == "True"


def test_objective_that_no_trial_reports_ends_the_sweep_with_what_they_report(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    sweeps.create(make_sweep())
    report = {"attempt": 1, "time": "2026-01-01T12:00:00Z"}
    metrics = {"step": 1, "steps": 1, "metrics": {"val_acc": "0.5", "val_loss": "1.5"}}
    said = {"message": "Done.", "report": report | {"progress": metrics}}
    end_first_pod(namespace, "digits-0", 0, said)
    assert wait_for_condition(sweeps, "digits", "Failed", "True") == (
        "spec.objective.metric: no trial reports 'val_accuracy'; did you mean 'val_acc'? They "
        "report 'val_acc', 'val_loss'."
    )
    assert not namespace.exists("digits-1")


def test_parameter_that_the_recipe_does_not_have_ends_the_sweep_with_the_nearest_name(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    parameters = {"training.learning_rte": {"values": [0.1, 0.2]}}
    sweeps.create(make_sweep(method="grid", parameters=parameters))
    sentence = "spec.overrides.training: unknown key 'learning_rte'; did you mean 'learning_rate'?"
    end_first_pod(namespace, "digits-0", 78, {"message": sentence})
    message = wait_for_condition(sweeps, "digits", "Failed", "True")
    assert message == f"Trial digits-0 cannot run as written: {sentence}"
    assert not namespace.exists("digits-1")
