"""`tensorBoard.serve`: the Deployment and the Service, whole, and what is refused."""

from dataclasses import replace

import pytest
from core_expected import OWNER
from core_objects import DEFAULTS, RECIPE, make_job
from core_scenes import decide

from trainyard_operator.board import build_board
from trainyard_operator.status import BoardLocation, JobStatus

SERVED = RECIPE | {"tensorBoard": {"serve": True}}
SELECTOR = {
    "app.kubernetes.io/component": "tensorboard",
    "app.kubernetes.io/instance": "nodules",
}
LABELS = SELECTOR | {
    "app.kubernetes.io/name": "trainyard",
    "app.kubernetes.io/managed-by": "trainyard-operator",
}
METADATA = {
    "name": "nodules-tensorboard",
    "namespace": "research",
    "labels": LABELS,
    "ownerReferences": [OWNER],
}
CONTAINER = {
    "name": "tensorboard",
    "image": "registry.example/trainer:1",
    "command": [
        "python3",
        "-m",
        "trainyard_trainer.board",
        "s3://bucket/prefix/research/nodules/uid-1/tensorboard",
        "6006",
    ],
    "env": [
        {"name": "HOME", "value": "/tmp"},
        {"name": "TRAINYARD_STORAGE_URI", "value": "s3://bucket/prefix"},
    ],
    "ports": [{"name": "http", "containerPort": 6006}],
    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    "resources": {
        "requests": {"cpu": "10m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    },
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
}
POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "containers": [CONTAINER],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
}


def test_the_deployment_is_restricted_bounded_and_the_jobs_own():
    deployment, service = build_board(make_job(**SERVED), DEFAULTS)
    assert deployment == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": METADATA,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": SELECTOR},
            "template": {"metadata": {"labels": LABELS}, "spec": POD},
        },
    }
    assert service == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": METADATA,
        "spec": {
            "selector": SELECTOR,
            "ports": [{"name": "http", "port": 6006, "targetPort": "http"}],
        },
    }


def test_what_a_template_says_of_the_trainers_surroundings_holds_for_it_too():
    claim = {"name": "ca", "persistentVolumeClaim": {"claimName": "ca"}}
    trainer = {
        "name": "pytorch",
        "image": "mine:2",
        "command": ["never"],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "env": [{"name": "AWS_CA_BUNDLE", "value": "/ca/ca.crt"}],
        "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    }
    template = {
        "metadata": {"labels": {"team": "lungs"}},
        "spec": {"volumes": [claim], "priorityClassName": "high", "containers": [trainer]},
    }
    deployment, _ = build_board(make_job(**SERVED, template=template), DEFAULTS)
    assert deployment["spec"]["template"] == {
        "metadata": {"labels": LABELS},
        "spec": POD
        | {
            "volumes": [*POD["volumes"], claim],
            "containers": [
                CONTAINER
                | {
                    "image": "mine:2",
                    "env": [*CONTAINER["env"], *trainer["env"]],
                    "volumeMounts": [*CONTAINER["volumeMounts"], *trainer["volumeMounts"]],
                }
            ],
        },
    }


def test_it_is_pulled_with_the_operators_secrets():
    defaults = replace(DEFAULTS, pull_secrets=("registry",))
    deployment, _ = build_board(make_job(**SERVED), defaults)
    secrets = {"imagePullSecrets": [{"name": "registry"}]}
    assert deployment["spec"]["template"]["spec"] == POD | secrets


def test_the_status_names_the_service():
    uri = "s3://bucket/prefix/research/nodules/uid-1/tensorboard"
    status = decide(JobStatus(), job=make_job(**SERVED)).status
    assert status.tensor_board == BoardLocation(uri=uri, service="nodules-tensorboard")
    status = decide(JobStatus(), job=make_job(**RECIPE)).status
    assert status.tensor_board == BoardLocation(uri=uri)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"tensorBoard": {"serve": True}, "storage": {"uri": "s3://bucket"}},
            "spec.tensorBoard.serve: nothing writes events here; drop it, or use a recipe with "
            "tensorBoard.enabled.",
        ),
        (
            SERVED | {"tensorBoard": {"serve": True, "enabled": False}},
            "spec.tensorBoard.serve: nothing writes events here; drop it, or use a recipe with "
            "tensorBoard.enabled.",
        ),
        (
            SERVED | {"storage": {"uri": "file:///shared"}},
            "spec.tensorBoard.serve: TensorBoard reads from S3; use a storage.uri of s3://.",
        ),
    ],
)
def test_where_there_would_be_nothing_to_show_it_is_refused(spec, message):
    decision = decide(JobStatus(), job=make_job(**spec))
    assert decision.actions == ()
    assert decision.status.condition("Accepted").message == message
