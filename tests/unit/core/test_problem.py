"""What the pods of an attempt wait for, in words that say what to do."""

import pytest
from core_objects import RECIPE, make_job, make_pod, pending

from trainyard_operator.contract import Cause
from trainyard_operator.verdict import Problem, problem

JOB = make_job(resources={"limits": {"memory": "64Gi"}})
MASTER, WORKER = "nodules-master-0", "nodules-worker-0"
NAMED = make_job(
    **RECIPE
    | {
        "storage": {"uri": "s3://b", "credentialsSecretRef": {"name": "s3-credentials"}},
        "configFrom": {"configMapKeyRef": {"name": "nodules", "key": "train.yaml"}},
        "image": "registry.example/trainer:1.3",
    }
)
PULL = "Pod nodules-master-0 cannot pull 'registry.example/trainer:1.3'"
FAILED = 'failed to pull and unpack image "registry.example/trainer:1.3": '
TROUBLES = {
    "no such tag": (
        "ErrImagePull",
        f"rpc error: code = NotFound desc = {FAILED}registry.example/trainer:1.3: not found",
        "ImagePull",
        f"{PULL}: no such image or tag. Correct spec.image.",
    ),
    "no such tag, later": (
        "ImagePullBackOff",
        'Back-off pulling image "registry.example/trainer:1.3": ErrImagePull: rpc error: not found',
        "ImagePull",
        f"{PULL}: no such image or tag. Correct spec.image.",
    ),
    "no rights": (
        "ErrImagePull",
        f"{FAILED}401 Unauthorized",
        "ImagePull",
        f"{PULL}: access denied. Correct spec.image, or name a Secret in "
        "spec.template.spec.imagePullSecrets.",
    ),
    "no registry": (
        "ErrImagePull",
        "dial tcp: lookup registry.example: no such host",
        "ImagePull",
        f"{PULL}: no such registry. Correct spec.image.",
    ),
    "no image name": (
        "InvalidImageName",
        "couldn't parse image name",
        "ImagePull",
        f"{PULL}: not a valid image name. Correct spec.image.",
    ),
    "anything else": (
        "ErrImagePull",
        "the moon is full.",
        "ImagePull",
        f"{PULL}: the moon is full. Correct spec.image.",
    ),
    "a missing Secret": (
        "CreateContainerConfigError",
        'secret "s3-credentials" not found',
        "ConfigurationError",
        "spec.storage.credentialsSecretRef: no Secret 's3-credentials' in namespace 'research'; "
        "create it, or drop the field to use the pod's identity.",
    ),
    "a missing ConfigMap": (
        "CreateContainerConfigError",
        'configmap "nodules" not found',
        "ConfigurationError",
        "spec.configFrom.configMapKeyRef: no ConfigMap 'nodules' in namespace 'research'; "
        "create it, or drop the field.",
    ),
    "a missing key": (
        "CreateContainerConfigError",
        "couldn't find key train.yaml in ConfigMap research/nodules",
        "ConfigurationError",
        "Pod nodules-master-0 cannot start: couldn't find key train.yaml in ConfigMap "
        "research/nodules.",
    ),
    "a runtime's refusal": (
        "CreateContainerError",
        "no such device",
        "ConfigurationError",
        "Pod nodules-master-0 cannot start: no such device.",
    ),
}


@pytest.mark.parametrize(
    ("reason", "message", "cause", "sentence"), TROUBLES.values(), ids=TROUBLES
)
def test_a_waiting_pod_says_what_to_do(reason, message, cause, sentence):
    pods = (make_pod(NAMED, **pending(message, reason)), make_pod(NAMED, 1))
    expected = Problem(cause=cause, message=sentence, pod=MASTER)
    assert problem(NAMED, pods) == expected


def test_the_operators_own_image_is_not_blamed_on_the_job():
    pods = (make_pod(make_job(**RECIPE), **pending("manifest unknown", "ErrImagePull")),)
    found = problem(make_job(**RECIPE), pods)
    assert found is not None
    assert found.message == (
        "Pod nodules-master-0 cannot pull the operator's trainer image: no such image or tag. "
        "Set spec.image, or trainerImage of the Helm chart."
    )


def test_a_full_cluster_is_told_without_the_schedulers_afterthoughts():
    full = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are ..."
    waits = pending() | {"waiting": None, "unschedulable": full, "node": None}
    pods = (make_pod(JOB, **waits), make_pod(JOB, 1))
    assert problem(JOB, pods) == Problem(
        cause=Cause.UNSCHEDULABLE,
        message="Pod nodules-master-0 waits for a node: 0/3 nodes are available: "
        "3 Insufficient nvidia.com/gpu.",
        pod=MASTER,
    )
    broken = (pods[0], make_pod(JOB, 1, **pending("not found", "ErrImagePull")))
    found = problem(JOB, broken)
    assert found is not None
    assert (found.cause, found.pod) == (Cause.IMAGE_PULL, WORKER)


def test_pods_that_are_only_being_made_are_no_problem():
    for waits in (pending(), pending("failed to sync secret", "CreateContainerConfigError")):
        assert problem(JOB, (make_pod(JOB, **waits), make_pod(JOB, 1))) is None
