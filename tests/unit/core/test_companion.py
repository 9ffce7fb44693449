"""The pod of a program whose results are kept: the program under a supervisor, and a sidecar."""

import json

import pytest
from core_expected import ACCOMPANIED, CONTAINER, ENV, POD, build, hashed
from core_objects import DEFAULTS, make_job, make_pod, summary

from trainyard_operator.companion import SUPERVISED, build_companion
from trainyard_operator.container import SECURITY
from trainyard_operator.contract import Cause, RunRequest
from trainyard_operator.verdict import first_failure, settles_at

STORAGE = {"uri": "s3://bucket/prefix", "credentialsSecretRef": {"name": "s3-credentials"}}
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def test_a_program_with_storage_runs_under_a_supervisor_beside_a_companion():
    job = make_job(storage=STORAGE, args=["--fast"])
    pod, container, env = build(job, index=1)
    (companion,) = pod["spec"].pop("initContainers")
    assert companion == build_companion(job, 1, 1, DEFAULTS, SECURITY)
    volumes = [*POD["spec"]["volumes"], {"name": "trainyard", "emptyDir": {}}]
    assert pod["spec"] == POD["spec"] | {
        "hostname": "nodules-worker-0",
        "terminationGracePeriodSeconds": 120,
        "volumes": volumes,
    }
    mounts = [*CONTAINER["volumeMounts"], {"name": "trainyard", "mountPath": "/trainyard"}]
    assert container == CONTAINER | {
        "command": [*SUPERVISED, "python", "train.py"],
        "args": ["--fast"],
        "volumeMounts": mounts,
    }
    assert env.keys() == (ENV | ACCOMPANIED).keys() | {"TRAINYARD_STORAGE_URI", *KEYS}


def test_the_companion_is_a_sidecar_of_our_image_with_the_same_restrictions():
    checkpoint = {"everySeconds": 60, "resumeFrom": {"job": "other"}}
    dataset = {"uri": "s3://bucket/luna16", "mountPath": "/luna"}
    job = make_job(storage=STORAGE, args=["--fast"], checkpoint=checkpoint, dataset=dataset)
    companion = build_companion(job, 3, 1, DEFAULTS, SECURITY)
    env = {item["name"]: item.get("value", item.get("valueFrom")) for item in companion.pop("env")}
    assert companion == {
        "name": "trainyard-companion",
        "image": "registry.example/trainer:1",
        "command": ["python3", "-m", "trainyard_trainer.companion"],
        "restartPolicy": "Always",
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "securityContext": CONTAINER["securityContext"],
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "trainyard", "mountPath": "/trainyard"},
            {"name": "dataset", "mountPath": "/luna"},
        ],
    }
    own = {"TRAINYARD_RUN", "TRAINYARD_PROGRAM", "TRAINYARD_STORAGE_URI", *KEYS}
    assert env.keys() == (ENV.keys() - {"ACCELERATE_USE_CPU"}) | own | {"TRAINYARD_SHARED"}
    assert (env["TRAINYARD_ATTEMPT"], env["TRAINYARD_NODE_INDEX"]) == ("3", "1")
    assert env["TRAINYARD_SCRATCH"] == env["TRAINYARD_SHARED"] == "/trainyard"
    assert json.loads(env["TRAINYARD_PROGRAM"]) == ["python", "train.py", "--fast"]
    assert RunRequest.from_json(env["TRAINYARD_RUN"]) == RunRequest(
        dataset_uri="s3://bucket/luna16",
        dataset_path="/luna",
        checkpoint={
            "everySeconds": 60,
            "keepLast": 3,
            "async": True,
            "resumeFrom": {"job": "other", "checkpoint": "latest"},
        },
        logs={"upload": True, "flushSeconds": 30},
    )


@pytest.mark.parametrize("spec", [{}, {"recipe": "classification", "storage": STORAGE}])
def test_without_storage_or_with_a_recipe_there_is_no_companion(spec):
    job = make_job(**spec)
    pod, container, env = build(job)
    assert pod == hashed(job)
    assert ACCOMPANIED.keys().isdisjoint(env)
    assert container["command"] in (["python", "train.py"], ["python3", "-m", "trainyard_trainer"])


def ended(index: int, code: int, cause: str | None, seconds: float):
    from core_objects import exited

    message = summary(code, f"rank {index} exited with code {code}", cause=cause, rank=index)
    return make_pod(index=index, **exited(code, message, seconds=seconds))


def test_an_exit_that_names_no_cause_waits_for_a_peer_that_does():
    job, mute = make_job(), ended(1, 1, None, 5)
    pods = (make_pod(), mute)
    failure = first_failure(job, 1, pods, formed=True)
    assert (failure.cause, failure.rank) == (Cause.USER_EXIT, 1)
    assert settles_at(failure, pods) is not None
    pods = (ended(0, 137, Cause.OUT_OF_MEMORY, 6), mute)
    failure = first_failure(job, 1, pods, formed=True)
    assert (failure.cause, failure.rank) == (Cause.OUT_OF_MEMORY, 0)


def test_an_exit_that_names_no_cause_yields_to_a_pod_that_was_taken_away():
    failure = first_failure(make_job(), 1, (ended(1, 1, None, 5),), formed=True)
    assert (failure.cause, failure.pod) == (Cause.POD_DELETED, "nodules-master-0")
