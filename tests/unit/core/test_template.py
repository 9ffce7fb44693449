"""A template laid over the pod."""

from core_expected import CONTAINER, ENV, MASTER_LABELS, POD, build, hashed
from core_objects import DEFAULTS, make_job

from trainyard_operator.desired import build_pod

CLAIM = {"persistentVolumeClaim": {"claimName": "luna"}}
OWN = {
    "name": "pytorch",
    "env": [{"name": "HOME", "value": "/home"}, {"name": "OMP_NUM_THREADS", "value": "1"}],
    "volumeMounts": [{"name": "luna", "mountPath": "/luna", "readOnly": True}],
    "securityContext": {"readOnlyRootFilesystem": False},
}


def test_a_template_is_merged_by_the_names_of_its_parts():
    template = {
        "metadata": {"labels": {"team": "lungs"}, "annotations": {"note": "mine"}},
        "spec": {
            "nodeSelector": {"gpu": "a100"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "volumes": [{"name": "luna", **CLAIM}, {"name": "tmp", **CLAIM}],
            "containers": [OWN],
        },
    }
    job = make_job(template=template)
    pod, container, env = build(job)
    plain = hashed(job)
    assert pod == plain | {
        "metadata": plain["metadata"]
        | {
            "labels": MASTER_LABELS | {"team": "lungs"},
            "annotations": plain["metadata"]["annotations"] | {"note": "mine"},
        },
        "spec": POD["spec"]
        | {
            "nodeSelector": {"gpu": "a100"},
            "tolerations": [*POD["spec"]["tolerations"], *template["spec"]["tolerations"]],
            "volumes": [
                {"name": "tmp", **CLAIM},
                {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
                {"name": "luna", **CLAIM},
            ],
        },
    }
    assert container == CONTAINER | {
        "volumeMounts": [*CONTAINER["volumeMounts"], *OWN["volumeMounts"]],
        "securityContext": CONTAINER["securityContext"] | {"readOnlyRootFilesystem": False},
    }
    assert env == ENV | {"HOME": "/home", "OMP_NUM_THREADS": "1"}


def test_a_sidecar_stands_beside_the_trainer():
    sidecar = {"name": "proxy", "image": "proxy:1"}
    pod = build_pod(make_job(template={"spec": {"containers": [sidecar]}}), 1, 0, DEFAULTS)
    assert [container["name"] for container in pod["spec"]["containers"]] == ["pytorch", "proxy"]
    assert pod["spec"]["containers"][1] == sidecar


def test_a_template_cannot_change_what_makes_the_gang():
    hostile = {
        "apiVersion": "v2",
        "metadata": {
            "name": "other",
            "namespace": "other",
            "labels": {"trainyard.dev/attempt": "9", "trainyard.dev/job-uid": None},
            "annotations": None,
            "ownerReferences": [],
            "generateName": "other-",
            "creationTimestamp": None,
            "resourceVersion": "7",
        },
        "status": {"phase": "Running"},
        "spec": {
            "restartPolicy": "Always",
            "hostname": "other",
            "subdomain": None,
            "containers": [
                {
                    "name": "pytorch",
                    "env": [
                        {"name": "RANK", "value": "7"},
                        {"name": "WORLD_SIZE", "valueFrom": {"fieldRef": {"fieldPath": "x"}}},
                        {"name": "TRAINYARD_ATTEMPT", "value": "9"},
                    ],
                }
            ],
        },
    }
    job = make_job(template=hostile)
    assert build(job) == (hashed(job), CONTAINER, ENV)


def test_null_in_a_template_removes_a_field():
    job = make_job(template={"spec": {"securityContext": {"runAsUser": None}, "tolerations": None}})
    pod, _, _ = build(job)
    security = {k: v for k, v in POD["spec"]["securityContext"].items() if k != "runAsUser"}
    spec = {k: v for k, v in POD["spec"].items() if k != "tolerations"}
    assert pod == hashed(job) | {"spec": spec | {"securityContext": security}}


def test_a_pod_on_the_hosts_network_still_finds_its_gang():
    pod, _, _ = build(make_job(template={"spec": {"hostNetwork": True}}))
    assert pod["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
    own = {"hostNetwork": True, "dnsPolicy": "None"}
    pod, _, _ = build(make_job(template={"spec": own}))
    assert pod["spec"]["dnsPolicy"] == "None"
