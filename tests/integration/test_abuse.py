"""Jobs, children and statuses that nobody in his right mind would write: each is told in a
condition, the operator goes on, and so do the other jobs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from integration.api_server import CORE, MERGE_PATCH, Namespace
from integration.conftest import Operator

MakeJob = Callable[..., dict[str, Any]]
GANG = ("nodules-master-0", "nodules-worker-0")
NO_WAIT = {"restartBackoff": {"initialSeconds": 0}}


@pytest.fixture(autouse=True)
def unharmed(namespace: Namespace, operator: Operator, make_job: MakeJob) -> Iterator[None]:
    """After each abuse another job of the same namespace, or of the next one, gets its pod, and
    no look at any job went wrong."""
    before = operator.metric("trainyard_reconcile_errors_total")
    yield
    body = {"metadata": {"name": f"{namespace.name}-next"}}
    namespace.api.must("POST", f"{CORE}/namespaces", body)
    beside = Namespace(namespace.api, f"{namespace.name}-next")
    beside.create(make_job("other", nodes=1))
    beside.wait_for_pods("other-master-0")
    assert operator.metric("trainyard_reconcile_errors_total") == before


def start_gang(namespace: Namespace, nodes: tuple[str, str] = ("node-1", "node-2")) -> None:
    """Until the job runs."""
    namespace.wait_for_pods(*GANG)
    for name, node in zip(GANG, nodes, strict=True):
        namespace.start_pod(name, node)
    namespace.wait_for_phase("nodules", "Running")


def end_gang(namespace: Namespace) -> None:
    """Every pod goes at once."""
    for pod in namespace.pods().values():
        namespace.finish_deletion(pod)


def is_told(namespace: Namespace, type_: str, words: str) -> bool:
    return words in namespace.condition("nodules", type_).get("message", "")


def test_ten_thousand_nodes_are_refused_by_the_api_server(
    namespace: Namespace, make_job: MakeJob
) -> None:
    assert namespace.refusal(make_job(nodes=10_000)).endswith(
        "spec.nodes: Invalid value: 10000: spec.nodes in body should be less than or equal to 1024"
    )


def test_five_thousand_labels_stay_on_the_job(namespace: Namespace, make_job: MakeJob) -> None:
    job = make_job()
    job["metadata"]["labels"] = {f"label-{n}": "x" for n in range(5000)}
    namespace.create(job)
    start_gang(namespace)
    assert max(len(pod["metadata"]["labels"]) for pod in namespace.pods().values()) < 20


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"metadata": {"finalizers": ["example/never"]}}, "would keep pods from going"),
        ({"metadata": {"labels": {f"l-{n}": "x" for n in range(5000)}}}, "longer than 65536"),
        ({"spec": {"containers": [{"name": "pytorch"}] * 2}}, "'pytorch' is there twice"),
        ({"spec": "Always"}, "spec.template.spec must be keys and values."),
    ],
    ids=["finalizers", "labels", "container twice", "no mapping"],
)
def test_a_template_that_breaks_the_gang_is_not_accepted(
    namespace: Namespace, make_job: MakeJob, template: dict[str, Any], words: str
) -> None:
    namespace.create(make_job(template=template))
    namespace.wait(lambda: is_told(namespace, "Accepted", words), "refused")
    assert namespace.status("nodules")["phase"] == "Pending"
    assert namespace.pods() == {}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"hostNetwork": True}, "violates PodSecurity"),
        ({"containers": [{"name": "pytorch", "image": None}]}, "image: Required value"),
        ({"initContainers": [{"name": "pytorch", "image": "x"}]}, "Duplicate value"),
        ({"containers": [{"name": "pytorch", "ports": [{"containerPort": -1}]}]}, "containerPort"),
    ],
    ids=["host network", "no image", "a name taken", "a port"],
)
def test_a_pod_that_the_api_server_refuses_is_told_in_its_words(
    namespace: Namespace, make_job: MakeJob, spec: dict[str, Any], words: str
) -> None:
    namespace.create(make_job(template={"spec": spec}))
    namespace.wait(lambda: is_told(namespace, "Running", words), "told")
    assert namespace.condition("nodules", "Running")["reason"] == "ConfigurationError"


def test_a_template_changes_nothing_that_makes_the_gang(
    namespace: Namespace, make_job: MakeJob
) -> None:
    own = {"name": "pytorch", "env": [{"name": "RANK", "value": "7"}]}
    labels = {"trainyard.dev/attempt": "9", "team": "lungs"}
    template = {
        "metadata": {"name": "other", "labels": labels, "ownerReferences": []},
        "spec": {"restartPolicy": "Always", "hostname": "other", "containers": [own]},
    }
    namespace.create(make_job(template=template))
    start_gang(namespace)
    pod = namespace.pods()["nodules-worker-0"]
    assert pod["metadata"]["labels"]["trainyard.dev/attempt"] == "1"
    assert pod["metadata"]["labels"]["team"] == "lungs"
    assert pod["metadata"]["ownerReferences"][0]["name"] == "nodules"
    assert pod["spec"]["restartPolicy"] == "Never"
    env = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
    assert env["RANK"] == "1"


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        {"startTime": "yesterday", "attemptTime": "9999-12-31T23:59:59Z"},
        {"podsAttempt": 99, "formedAttempt": 7},
        {"failure": {"cause": "Nonsense", "message": "x", "attempt": 1}, "restarts": {"user": 99}},
        {"conditions": [{"type": "Running", "status": "True", "lastTransitionTime": "never"}]},
    ],
    ids=["nothing", "times", "attempts", "failure", "conditions"],
)
def test_a_job_whose_status_was_edited_by_hand_goes_on_to_its_end(
    namespace: Namespace, make_job: MakeJob, garbage: dict[str, Any] | None
) -> None:
    namespace.create(make_job())
    start_gang(namespace)
    before = {pod["metadata"]["uid"] for pod in namespace.pods().values()}
    path = f"{namespace.jobs}/nodules/status"
    namespace.api.must("PATCH", path, {"status": garbage}, headers=MERGE_PATCH)
    namespace.wait(lambda: namespace.status("nodules").get("phase") == "Running", "running")
    assert {pod["metadata"]["uid"] for pod in namespace.pods().values()} == before
    for name in GANG:
        namespace.end_pod(name, 0)
    namespace.wait_for_phase("nodules", "Succeeded")


def test_children_that_were_deleted_by_hand_come_back(
    namespace: Namespace, make_job: MakeJob
) -> None:
    namespace.create(make_job(runPolicy=NO_WAIT))
    start_gang(namespace)
    before = {pod["metadata"]["uid"] for pod in namespace.pods().values()}
    namespace.api.must("DELETE", f"{namespace.core}/services/nodules")
    end_gang(namespace)
    namespace.wait(
        lambda: (
            {p["metadata"]["uid"] for p in namespace.pods().values()}.isdisjoint(before)
            and len(namespace.pods()) == 2
        ),
        "two new pods",
    )
    assert set(namespace.services()) == {"nodules"}
    assert namespace.status("nodules")["restarts"] == {"user": 0, "infrastructure": 1}


def test_a_secret_that_is_gone_is_named_until_it_is_back(
    namespace: Namespace, make_job: MakeJob
) -> None:
    storage = {"uri": "s3://bucket/prefix", "credentialsSecretRef": {"name": "s3-credentials"}}
    namespace.create(make_job(storage=storage))
    namespace.wait_for_pods(*GANG)
    waits = {"reason": "CreateContainerConfigError", "message": 'secret "s3-credentials" not found'}
    namespace.set_pod(GANG[1], phase="Pending", state={"waiting": waits})
    words = f"no Secret 's3-credentials' in namespace '{namespace.name}'; create it"
    namespace.wait(lambda: is_told(namespace, "Running", words), "told")
    start_gang(namespace)


def test_a_namespace_that_is_being_deleted_gets_no_new_pods(
    namespace: Namespace, make_job: MakeJob
) -> None:
    namespace.create(make_job(runPolicy=NO_WAIT))
    start_gang(namespace)
    namespace.api.must("DELETE", f"{CORE}/namespaces/{namespace.name}")
    end_gang(namespace)
    namespace.wait(lambda: is_told(namespace, "Running", "is being terminated"), "told")
    assert namespace.pods() == {}


def test_a_node_that_broke_two_attempts_is_avoided_until_there_is_no_other(
    namespace: Namespace, make_job: MakeJob
) -> None:
    namespace.create(make_job(runPolicy=NO_WAIT | {"startupDeadlineSeconds": 20}))
    for attempt in (1, 2):
        namespace.wait(lambda: namespace.status("nodules").get("attempt") == attempt, "attempt")  # noqa: B023
        start_gang(namespace)
        namespace.end_pod(GANG[1], 1, "ValueError: bad")
        namespace.wait_for_phase("nodules", "Restarting")
        end_gang(namespace)
    faults = namespace.status("nodules")["nodeFaults"]
    assert faults == [{"node": "node-2", "attempts": 2, "lastAttempt": 2}]
    namespace.wait_for_pods(*GANG)
    affinity = namespace.pods()[GANG[0]]["spec"]["affinity"]["nodeAffinity"]
    other = {"key": "metadata.name", "operator": "NotIn", "values": ["node-2"]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    assert affinity == {required: {"nodeSelectorTerms": [{"matchFields": [other]}]}}

    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}
    path = f"{namespace.core}/pods/{GANG[0]}/status"
    namespace.api.must("PATCH", path, {"status": {"conditions": [full]}}, headers=MERGE_PATCH)
    namespace.wait(lambda: namespace.status("nodules")["attempt"] == 4, "another attempt")
    namespace.wait_for_pods(*GANG)
    affinity = namespace.pods()[GANG[0]]["spec"]["affinity"]["nodeAffinity"]
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    assert affinity == {preferred: [{"weight": 100, "preference": {"matchFields": [other]}}]}
    reasons = [reason for _, reason, _ in namespace.events("nodules")]
    assert "LastResort" in reasons
