"""Objects that a job owns, whole."""

import json
from dataclasses import replace

import pytest
from core_expected import (
    ACCOMPANIED,
    CONTAINER,
    ENV,
    LABELS,
    MASTER_LABELS,
    OWNER,
    POD,
    build,
    hashed,
    split,
)
from core_objects import COMMAND, DEFAULTS, RECIPE, make_job

from trainyard_operator.api import Storage
from trainyard_operator.contract import RunRequest
from trainyard_operator.desired import Defaults, build_pod, build_service, spec_hash


def test_a_command_job_gets_a_restricted_pod_with_the_gang_in_its_environment():
    assert build(make_job()) == (POD, CONTAINER, ENV)


def test_a_worker_differs_from_the_master_in_name_labels_and_rank_alone():
    pod, container, env = build(make_job(), index=1, attempt=3)
    labels = {k: v for k, v in MASTER_LABELS.items() if not k.endswith("job-role")} | {
        "trainyard.dev/attempt": "3",
        "trainyard.dev/node-index": "1",
        "training.kubeflow.org/replica-type": "worker",
    }
    name = "nodules-worker-0"
    assert pod == POD | {
        "metadata": POD["metadata"] | {"name": name, "labels": labels},
        "spec": POD["spec"] | {"hostname": name},
    }
    assert container == CONTAINER
    assert env == ENV | {
        "RANK": "1",
        "GROUP_RANK": "1",
        "PET_NODE_RANK": "1",
        "TRAINYARD_POD": name,
        "TRAINYARD_ATTEMPT": "3",
        "TRAINYARD_NODE_INDEX": "1",
    }


@pytest.mark.parametrize(
    ("spec", "ranks"),
    [
        ({"processesPerNode": 3}, 3),
        ({"resources": {"limits": {"nvidia.com/gpu": 4}}}, 4),
        ({"resources": {"limits": {"amd.com/gpu": "2"}}}, 2),
        ({"resources": {"limits": {"nvidia.com/gpu": 4}}, "processesPerNode": 1}, 1),
        ({"resources": {"limits": {"cpu": "8"}}}, 1),
    ],
)
def test_ranks_follow_processes_per_node_or_the_gpus(spec, ranks):
    _, _, env = build(make_job(**spec), index=1)
    has_gpu = any("/gpu" in name for name in spec.get("resources", {}).get("limits", {}))
    assert ("ACCELERATE_USE_CPU" in env) != has_gpu
    assert env | {"ACCELERATE_USE_CPU": "true"} == ENV | {
        "RANK": str(ranks),
        "WORLD_SIZE": str(2 * ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "1",
        "PET_NODE_RANK": "1",
        "PET_NPROC_PER_NODE": str(ranks),
        "TRAINYARD_POD": "nodules-worker-0",
        "TRAINYARD_NODE_INDEX": "1",
        "TRAINYARD_PROCESSES_PER_NODE": str(ranks),
    }


def test_resources_and_args_are_passed_on_as_given():
    resources = {"limits": {"nvidia.com/gpu": 1, "memory": "64Gi"}, "requests": {"cpu": "4"}}
    _, container, _ = build(make_job(resources=resources, args=["--epochs", "3"]))
    assert container == CONTAINER | {"resources": resources, "args": ["--epochs", "3"]}


def test_a_recipe_runs_in_the_operators_trainer_image_with_its_request():
    job = make_job(**RECIPE, config={"training": {"epochs": 3}}, overrides=["model.depth=50"])
    pod, container, env = build(job)
    assert pod == hashed(job)
    assert container == CONTAINER | {
        "image": "registry.example/trainer:1",
        "command": ["python3", "-m", "trainyard_trainer"],
    }
    request = RunRequest.from_json(env["TRAINYARD_RUN"])
    assert env == ENV | {
        "TRAINYARD_RUN": request.to_json(),
        "TRAINYARD_NODE_MEMORY": "/dev/shm/trainyard",
        "TRAINYARD_ORDER_TOKEN": env["TRAINYARD_ORDER_TOKEN"],
        "TRAINYARD_STORAGE_URI": "s3://bucket/prefix",
    }
    assert request == RunRequest(
        recipe="classification",
        config={"training": {"epochs": 3}},
        overrides=["model.depth=50"],
        checkpoint={"keepLast": 3, "async": True},
        logs={"upload": True, "flushSeconds": 30},
    )


def test_credentials_are_named_and_never_held():
    storage = {
        "uri": "s3://bucket",
        "endpoint": "https://s3.example",
        "region": "eu-central-1",
        "credentialsSecretRef": {"name": "s3-credentials"},
        "compat": "strict",
    }
    _, _, env = build(make_job(storage=storage))

    def key(name: str, **extra) -> dict:
        return {"secretKeyRef": {"name": "s3-credentials", "key": name, **extra}}

    assert env == ENV | ACCOMPANIED | {
        "TRAINYARD_STORAGE_URI": "s3://bucket",
        "TRAINYARD_STORAGE_ENDPOINT": "https://s3.example",
        "TRAINYARD_STORAGE_REGION": "eu-central-1",
        "TRAINYARD_STORAGE_COMPAT": "strict",
        "AWS_ACCESS_KEY_ID": key("AWS_ACCESS_KEY_ID"),
        "AWS_SECRET_ACCESS_KEY": key("AWS_SECRET_ACCESS_KEY"),
        "AWS_SESSION_TOKEN": key("AWS_SESSION_TOKEN", optional=True),
    }


def test_the_operators_storage_serves_jobs_without_their_own():
    defaults = Defaults(storage=Storage(uri="s3://shared"))
    _, _, env = split(build_pod(make_job(), 1, 0, defaults))
    assert env == ENV | ACCOMPANIED | {"TRAINYARD_STORAGE_URI": "s3://shared"}


def test_the_operators_pull_secrets_serve_all_jobs_and_a_template_adds_its_own():
    defaults = replace(DEFAULTS, pull_secrets=("registry", "mirror"))
    shared = [{"name": "registry"}, {"name": "mirror"}]
    pod, _, _ = split(build_pod(make_job(), 1, 0, defaults))
    assert pod == POD | {"spec": POD["spec"] | {"imagePullSecrets": shared}}
    own = {"imagePullSecrets": [{"name": "mirror"}, {"name": "own"}]}
    pod = build_pod(make_job(template={"spec": own}), 1, 0, defaults)
    assert pod["spec"]["imagePullSecrets"] == [*shared, {"name": "own"}]
    pod = build_pod(make_job(template={"spec": {"imagePullSecrets": None}}), 1, 0, defaults)
    assert "imagePullSecrets" not in pod["spec"]


def test_config_from_becomes_a_variable_that_kubernetes_fills():
    reference = {"name": "nodules", "key": "train.yaml"}
    _, _, env = build(make_job(**RECIPE, configFrom={"configMapKeyRef": reference}))
    assert env["TRAINYARD_CONFIG_FROM"] == {"configMapKeyRef": reference}


def test_a_dataset_gets_a_volume_at_its_path():
    job = make_job(dataset={"uri": "s3://bucket/luna16", "mountPath": "/luna", "sizeLimit": "9Gi"})
    pod, container, _ = build(job)
    volume = {"name": "dataset", "emptyDir": {"sizeLimit": "9Gi"}}
    spec = POD["spec"] | {"volumes": [*POD["spec"]["volumes"], volume]}
    assert pod == hashed(job) | {"spec": spec}
    mounts = [*CONTAINER["volumeMounts"], {"name": "dataset", "mountPath": "/luna"}]
    assert container == CONTAINER | {"volumeMounts": mounts}


def test_a_cached_dataset_gets_the_claim_beside_its_own_volume():
    dataset = {"uri": "s3://bucket/luna16", "cache": {"claim": "datasets"}}
    job = make_job(**RECIPE, dataset=dataset)
    pod, container, env = build(job)
    claim = {"name": "dataset-cache", "persistentVolumeClaim": {"claimName": "datasets"}}
    assert pod["spec"]["volumes"][2:] == [{"name": "dataset", "emptyDir": {}}, claim]
    assert container["volumeMounts"][2:] == [
        {"name": "dataset", "mountPath": "/data"},
        {"name": "dataset-cache", "mountPath": "/trainyard-cache"},
    ]
    assert env["TRAINYARD_DATASET_CACHE"] == "/trainyard-cache"


def test_a_dataset_without_uri_is_left_to_the_template():
    job = make_job(dataset={"mountPath": "/luna"})
    assert build(job) == (hashed(job), CONTAINER, ENV)


def test_scheduling_reaches_the_pod():
    job = make_job(scheduling={"schedulerName": "mine", "priorityClassName": "high"})
    spec = POD["spec"] | {"schedulerName": "mine", "priorityClassName": "high"}
    assert build(job)[0] == hashed(job) | {"spec": spec}


def test_the_service_publishes_pods_that_are_not_ready():
    assert build_service(make_job()) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "nodules",
            "namespace": "research",
            "labels": LABELS,
            "ownerReferences": [OWNER],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"trainyard.dev/job-uid": "uid-1"},
            "ports": [
                {"name": "master", "port": 23456},
                {"name": "progress", "port": 9464},
            ],
        },
    }


def test_building_twice_gives_the_same_bytes_and_leaves_the_job_alone():
    template = {"spec": {"containers": [{"name": "pytorch", "env": [{"name": "A", "value": "1"}]}]}}
    job = make_job(**RECIPE, template=template)
    before = job.model_dump_json()
    first = json.dumps(build_pod(job, 1, 0, DEFAULTS))
    assert json.dumps(build_pod(job, 1, 0, DEFAULTS)) == first
    assert job.model_dump_json() == before


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        ({"nodes": 3}, True),
        ({"args": ["--fast"]}, True),
        ({"runPolicy": {"maxRestarts": 9, "suspend": True}}, False),
        ({"checkpoint": {"keepLast": 3}}, False),  # the default, written out
    ],
)
def test_pods_are_built_anew_when_the_spec_changes_but_not_for_run_policy(change, is_new):
    assert (spec_hash(make_job(**change).spec) != spec_hash(make_job().spec)) is is_new


def test_the_hash_of_a_spec_stays_across_versions_of_the_operator():
    assert spec_hash(make_job(**COMMAND).spec) == "ce3c13b9cecb5ff7"


def test_a_gpu_of_the_template_is_not_hidden_from_accelerate():
    gpu = {"name": "pytorch", "resources": {"limits": {"nvidia.com/mig-1g.5gb": 1}}}
    _, _, env = build(make_job(template={"spec": {"containers": [gpu]}}))
    assert "ACCELERATE_USE_CPU" not in env


def test_the_templates_own_choice_for_accelerate_stays():
    choice = {"name": "pytorch", "env": [{"name": "ACCELERATE_USE_CPU", "value": "false"}]}
    _, _, env = build(make_job(template={"spec": {"containers": [choice]}}))
    assert env["ACCELERATE_USE_CPU"] == "false"
