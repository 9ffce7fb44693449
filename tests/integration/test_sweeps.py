"""Sweeps on a real API server: trials are TrainingJobs, kubelets are played by hand."""

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from core_sweeps import make_spec
from integration.api_server import Namespace
from integration.conftest import Operator

PROGRAM = {"command": ["python", "train.py"], "image": "registry.example/mine:1"}


def make_sweep(method: str = "folds", **fields: Any) -> dict[str, Any]:
    """Of a program, so that a test has to play no trainer."""
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingSweep",
        "metadata": {"name": "digits"},
        "spec": make_spec(method, template={"spec": PROGRAM}, **fields),
    }


@pytest.fixture
def sweeps(namespace: Namespace) -> Namespace:
    return namespace.of("trainingsweeps")


@pytest.fixture
def restarted(operator: Operator) -> Iterator[Operator]:
    """The operator; it runs again after the test."""
    yield operator
    if not operator.is_ready():
        operator.start()


def trials(namespace: Namespace) -> dict[str, dict[str, Any]]:
    found = namespace.api.must("GET", namespace.jobs)["items"]
    return {job["metadata"]["name"]: job for job in found}


def report(number: float, attempt: int) -> str:
    """A program's last words, with its metric."""
    said = {
        "attempt": attempt,
        "time": "2026-01-01T12:00:00Z",
        "progress": {"step": 10, "steps": 10, "metrics": {"val_accuracy": str(number)}},
    }
    return json.dumps({"exit_code": 0, "message": "Done.", "report": said})


def finish(namespace: Namespace, trial: str, number: float, attempt: int = 1) -> None:
    """The trial's only pod runs and ends well."""
    pod = f"{trial}-master-0"
    namespace.wait(lambda: pod in namespace.pods(), f"pod {pod}")
    namespace.start_pod(pod)
    namespace.end_pod(pod, 0, report(number, attempt))


def test_sweep_runs_its_trials_and_tells_mean_and_best(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    sweeps.create(make_sweep(parallelism=2))
    namespace.wait(lambda: len(trials(namespace)) == 2, "two trials")
    for number in range(3):
        finish(namespace, f"digits-{number}", 0.25 * (number + 1))
    status = sweeps.wait_for_phase("digits", "Succeeded")
    assert status["summary"] == {"metric": "val_accuracy", "mean": 0.5, "std": 0.25, "trials": 3}
    assert status["best"]["job"] == "digits-2"
    assert status["counts"] == {
        "total": 3,
        "created": 3,
        "running": 0,
        "succeeded": 3,
        "failed": 0,
        "stopped": 0,
    }
    arguments = [job["spec"]["args"] for _, job in sorted(trials(namespace).items())]
    assert arguments == [[f"--data.fold={fold}"] for fold in range(3)]
    told = [reason for _, reason, _ in sweeps.events("digits")]
    assert told == ["Running", "Succeeded"]
    assert operator.metric("trainyard_sweeps", phase="Succeeded") >= 1
    assert operator.metric("trainyard_trials", outcome="Succeeded") >= 3


def test_operator_killed_at_random_moments_makes_every_trial_once(
    namespace: Namespace, sweeps: Namespace, restarted: Operator
) -> None:
    chance = random.Random(7)
    values = [number / 100 for number in range(12)]
    parameters = {"training.seed": {"values": list(range(12))}}
    sweeps.create(make_sweep("grid", parameters=parameters, parallelism=4))
    uids: dict[str, str] = {}
    ended: set[str] = set()
    for _ in range(8):
        if not restarted.is_ready():
            restarted.start()
        time.sleep(chance.uniform(0, 0.4))
        for name, job in trials(namespace).items():
            uid = job["metadata"]["uid"]
            assert uids.setdefault(name, uid) == uid
            pod = namespace.pods().get(f"{name}-master-0")
            if pod and name not in ended:
                ended.add(name)
                finish(namespace, name, values[int(name.removeprefix("digits-"))])
        time.sleep(chance.uniform(0, 0.1))
        restarted.kill()
    restarted.start()
    while len(ended) < 12:
        namespace.wait(lambda: set(trials(namespace)) - ended, "more trials")
        for name in set(trials(namespace)) - ended:
            ended.add(name)
            finish(namespace, name, values[int(name.removeprefix("digits-"))])
    status = sweeps.wait_for_phase("digits", "Succeeded")
    found = trials(namespace)
    assert set(found) == {f"digits-{number}" for number in range(12)}
    assert all(found[name]["metadata"]["uid"] == uid for name, uid in uids.items())
    assert status["summary"]["mean"] == pytest.approx(sum(values) / 12)
    assert status["best"]["job"] == "digits-11"


def test_suspended_sweep_suspends_its_trials_and_goes_on(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    sweeps.create(make_sweep())
    namespace.wait_for_pods("digits-0-master-0")
    sweeps.edit("digits", {"runPolicy": {"suspend": True}})
    namespace.wait_for_phase("digits-0", "Suspended")
    sweeps.wait_for_phase("digits", "Suspended")
    namespace.wait_for_pods()
    sweeps.edit("digits", {"runPolicy": {"suspend": False}})
    namespace.wait_for_pods("digits-0-master-0")
    finish(namespace, "digits-0", 0.5, attempt=2)
    namespace.wait(lambda: "digits-1" in trials(namespace), "the next trial")


def test_name_that_a_strange_job_has_is_told_and_nothing_is_taken_over(
    namespace: Namespace, sweeps: Namespace, operator: Operator
) -> None:
    strange = {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "digits-0"},
        "spec": {**PROGRAM, "runPolicy": {"suspend": True}},
    }
    uid = namespace.create(strange)["metadata"]["uid"]
    sweeps.create(make_sweep(parallelism=2))
    namespace.wait(lambda: "digits-1" in trials(namespace), "the other trial")
    message = sweeps.wait(lambda: sweeps.condition("digits", "Running").get("message"), "told")
    assert trials(namespace)["digits-0"]["metadata"]["uid"] == uid
    sweeps.wait(
        lambda: "digits-0" in sweeps.condition("digits", "Running").get("message", ""),
        f"why digits-0 is not made, beside {message}",
    )


def test_spec_that_only_the_operator_can_judge_is_refused_with_a_sentence(
    sweeps: Namespace, operator: Operator
) -> None:
    parameters = {"training.lr": {}}
    sweeps.create(make_sweep("random", parameters=parameters))
    sweeps.wait(lambda: sweeps.condition("digits", "Accepted"), "judged")
    condition = sweeps.condition("digits", "Accepted")
    assert (condition["status"], condition["message"]) == (
        "False",
        "spec.parameters.training.lr: give each parameter either values, or a distribution "
        "with min and max.",
    )


def test_operator_has_no_right_to_change_a_sweeps_spec(
    namespace: Namespace, sweeps: Namespace
) -> None:
    token = namespace.api.token("trainyard-system", "trainyard-operator")
    sweeps.create(make_sweep(runPolicy={"suspend": True}))
    path = f"{sweeps.jobs}/digits"
    answer = namespace.api.send_as(token, "PATCH", path)
    assert answer.status_code == 403
