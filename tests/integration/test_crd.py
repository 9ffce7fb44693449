"""What the API server itself says of a job, with no operator and no webhook."""

from collections.abc import Callable
from typing import Any

import pytest
from integration.api_server import MERGE_PATCH, ApiServer, Namespace

MakeJob = Callable[..., dict[str, Any]]
INVALID = 'TrainingJob.trainyard.dev "{name}" is invalid: '
PROGRAM = (
    'spec: Invalid value: "object": set exactly one of recipe (a recipe of the trainer) and '
    "command (any PyTorch program in image)."
)
MISSPELT = (
    'TrainingJob in version "v1alpha1" cannot be handled as a TrainingJob: strict decoding '
    'error: unknown field "{field}"'
)
NAME = (
    '<nil>: Invalid value: "object": metadata.name becomes part of host names: at most 50 '
    "lower-case letters, digits and '-', beginning with a letter and not ending with '-'."
)
REFUSALS = [
    (
        "no nodes",
        {"nodes": 0},
        INVALID + "spec.nodes: Invalid value: 0: spec.nodes in body should be greater than or "
        "equal to 1",
    ),
    ("recipe and command", {"recipe": "classification", "command": ["x"]}, INVALID + PROGRAM),
    ("neither recipe nor command", {"command": None}, INVALID + PROGRAM),
    ("misspelt key", {"nodez": 3}, MISSPELT.format(field="spec.nodez")),
    (
        "misspelt key further down",
        {"runPolicy": {"maxRestart": 3}},
        MISSPELT.format(field="spec.runPolicy.maxRestart"),
    ),
    (
        "storage that is no URI",
        {"storage": {"uri": "bucket/prefix"}},
        INVALID + 'spec.storage: Invalid value: "object": uri must start with s3:// or file://, '
        "such as s3://bucket/prefix.",
    ),
    (
        "endpoint without a scheme",
        {"storage": {"uri": "s3://bucket", "endpoint": "s3.example"}},
        INVALID + 'spec.storage: Invalid value: "object": endpoint must be an http or https '
        "address, such as https://s3.example.",
    ),
    (
        "relative mount path",
        {"dataset": {"mountPath": "data"}},
        INVALID + 'spec.dataset: Invalid value: "object": mountPath must be absolute, such as '
        "/data.",
    ),
    (
        "processes that are no number",
        {"processesPerNode": "many"},
        INVALID + 'spec.processesPerNode: Invalid value: "": processesPerNode must be auto or a '
        "number from 1 to 64.",
    ),
    (
        "configuration of a command",
        {"config": {"a": 1}},
        INVALID + 'spec: Invalid value: "object": config, configFrom and overrides belong to a '
        "recipe; give a command its arguments in args.",
    ),
    ("name of 51 characters", {"name": "a" * 51}, INVALID + NAME),
    ("name with a dot", {"name": "a.b"}, INVALID + NAME),
    ("name that begins with a digit", {"name": "1ab"}, INVALID + NAME),
]


@pytest.mark.parametrize(
    ("fields", "sentence"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_bad_job_is_refused_with_a_sentence(
    namespace: Namespace, make_job: MakeJob, fields: dict[str, Any], sentence: str
) -> None:
    spec = dict(fields)
    name = spec.pop("name", "nodules")
    assert namespace.refusal(make_job(name, **spec)) == sentence.format(name=name)


def test_job_with_every_kind_of_field_is_accepted(namespace: Namespace, make_job: MakeJob) -> None:
    job = make_job(
        "a" * 50,
        recipe="lung-nodule",
        config={"training": {"epochs": 100, "schedule": [{"name": "cosine"}]}},
        configFrom={"configMapKeyRef": {"name": "nodules", "key": "train.yaml"}},
        overrides=["model.base_filters=64"],
        processesPerNode=4,
        resources={"limits": {"nvidia.com/gpu": 4, "memory": "64Gi"}},
        elastic={"minNodes": 1, "maxNodes": 4},
        template={"spec": {"nodeSelector": {"gpu": "h200"}, "containers": [{"name": "pytorch"}]}},
        storage={"uri": "s3://bucket/prefix", "credentialsSecretRef": {"name": "s3"}},
        dataset={"uri": "s3://bucket/luna16", "mountPath": "/data", "sizeLimit": "200Gi"},
        checkpoint={"everySteps": 500, "keepBest": {"metric": "froc_score"}, "async": True},
        runPolicy={"maxRestarts": 3, "restartBackoff": {"initialSeconds": 5}},
        scheduling={"priorityClassName": "high", "avoidFailedNodes": True},
    )
    stored = namespace.create(job)["spec"]
    assert {key: stored[key] for key in ("config", "template", "overrides")} == {
        key: job["spec"][key] for key in ("config", "template", "overrides")
    }


def test_defaults_are_filled_in_by_the_api_server(namespace: Namespace, make_job: MakeJob) -> None:
    spec = namespace.create(make_job(nodes=None))["spec"]
    assert spec["nodes"] == 1
    assert spec["processesPerNode"] == "auto"
    assert spec["checkpoint"] == {"keepLast": 3, "async": True}
    assert spec["runPolicy"]["restartBackoff"] == {"initialSeconds": 5, "maxSeconds": 300}
    assert "template" not in spec
    assert "storage" not in spec


def test_kubectl_get_prints_these_columns(api: ApiServer, namespace: Namespace) -> None:
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = api.must("GET", namespace.jobs, headers=accept)
    columns = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    shown = ["Name", "Phase", "Progress", "Step", "Loss", "Nodes", "Restarts", "Checkpoint", "Age"]
    wide = ["Reason", "ETA", "Best", "Node"]
    assert columns == [(name, 0) for name in shown] + [(name, 1) for name in wide]


def test_scaling_sets_the_number_of_nodes(
    api: ApiServer, namespace: Namespace, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    path = f"{namespace.jobs}/nodules/scale"
    api.must("PATCH", path, {"spec": {"replicas": 3}}, headers=MERGE_PATCH)
    assert namespace.job("nodules")["spec"]["nodes"] == 3


def test_status_cannot_be_written_with_the_spec(namespace: Namespace, make_job: MakeJob) -> None:
    stored = namespace.create(make_job() | {"status": {"phase": "Succeeded"}})
    assert "status" not in stored


def test_crd_is_structural_and_its_names_are_taken(api: ApiServer) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainingjobs.trainyard.dev"
    conditions = {c["type"]: c["status"] for c in api.must("GET", path)["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
