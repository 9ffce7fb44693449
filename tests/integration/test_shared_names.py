"""Names that are taken, statuses that somebody else writes, objects that are refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from integration.api_server import MERGE_PATCH, ApiServer, Namespace
from integration.conftest import Operator

MakeJob = Callable[..., dict[str, Any]]
GANG = ("nodules-master-0", "nodules-worker-0")
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def make_pod(name: str, **metadata: Any) -> dict[str, Any]:
    """A pod that has nothing to do with us."""
    container = {
        "name": "main",
        "image": "x",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"securityContext": RESTRICTED, "containers": [container]},
    }


def warnings(namespace: Namespace) -> list[tuple[str, str, str]]:
    """Of the job, oldest first."""
    return [event for event in namespace.events("nodules") if event[0] == "Warning"]


def look_again(namespace: Namespace, operator: Operator) -> None:
    """Returns when the operator has looked at the job twice more."""
    for _ in range(2):
        looks = operator.metric("trainyard_reconcile_seconds_count")
        namespace.touch("nodules")
        namespace.wait(
            lambda n=looks: operator.metric("trainyard_reconcile_seconds_count") > n, "looked at"
        )


def test_somebody_elses_pod_is_left_alone_and_told_of(
    api: ApiServer, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    api.must("POST", f"{namespace.core}/pods", make_pod("nodules-worker-0"))
    namespace.create(make_job())
    sentence = (
        "The API server refused a pod of this job: Pod 'nodules-worker-0' exists and does not "
        "belong to this job; delete it, or give the job another name."
    )
    namespace.wait(
        lambda: namespace.condition("nodules", "Running").get("message") == sentence, sentence
    )
    namespace.wait(lambda: warnings(namespace), "a warning")
    look_again(namespace, operator)
    assert warnings(namespace) == [("Warning", "ConfigurationError", sentence)]

    namespace.delete_pod("nodules-worker-0")
    namespace.touch("nodules")
    namespace.wait_for_pods(*GANG)
    assert all(pod["metadata"].get("ownerReferences") for pod in namespace.pods().values())
    assert namespace.status("nodules")["attempt"] == 1


def test_no_pod_starts_without_the_service(
    api: ApiServer, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    service = {"metadata": {"name": "nodules"}, "spec": {"ports": [{"port": 80}]}}
    api.must("POST", f"{namespace.core}/services", service)
    namespace.create(make_job())
    namespace.wait(
        lambda: (
            "Service 'nodules' exists"
            in namespace.condition("nodules", "Running").get("message", "")
        ),
        "told of the service",
    )
    assert namespace.pods() == {}


def test_new_job_clears_what_a_namesake_left(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    """There is no garbage collector here, as there is none for a while after an outage."""
    namespace.create(make_job(nodes=1))
    old = namespace.wait_for_pods("nodules-master-0")["nodules-master-0"]["metadata"]["uid"]
    namespace.delete("nodules")
    namespace.create(make_job(nodes=1))

    def is_new() -> bool:
        pod = namespace.pods().get("nodules-master-0", {"metadata": {"uid": old}})
        if "deletionTimestamp" in pod["metadata"]:
            namespace.finish_deletion(pod)
        return bool(pod["metadata"]["uid"] != old)

    namespace.wait(is_new, "a pod of the new job", 20)
    uid = namespace.job("nodules")["metadata"]["uid"]
    owner = namespace.services()["nodules"]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == uid
    assert warnings(namespace) == []


def test_pod_that_pod_security_refuses_is_explained_once(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job(nodes=1, template={"spec": {"hostNetwork": True}}))
    namespace.wait(
        lambda: namespace.condition("nodules", "Running").get("reason") == "ConfigurationError",
        "refused",
    )
    condition = namespace.condition("nodules", "Running")
    assert condition["message"].startswith(
        'The API server refused a pod of this job: pods "nodules-master-0" is forbidden: '
        'violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'
    )
    namespace.wait(lambda: warnings(namespace), "a warning")
    look_again(namespace, operator)
    assert warnings(namespace) == [("Warning", "ConfigurationError", condition["message"])]

    namespace.edit("nodules", {"template": {"spec": {"hostNetwork": False}}})
    namespace.wait_for_pods("nodules-master-0")


def test_misspelt_key_of_the_template_is_named(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job(nodes=1, template={"spec": {"nodeSelecter": {"gpu": "h200"}}}))
    namespace.wait(
        lambda: (
            'unknown field "spec.nodeSelecter"'
            in namespace.condition("nodules", "Running").get("message", "")
        ),
        "the key named",
    )


def test_quantity_that_is_none_is_told_of(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job(nodes=1, resources={"limits": {"nvidia.com/gpu": "lots"}}))
    namespace.wait(
        lambda: (
            "quantities must match" in namespace.condition("nodules", "Running").get("message", "")
        ),
        "refused",
    )
    namespace.edit("nodules", {"resources": {"limits": {"nvidia.com/gpu": 1}}})
    namespace.wait_for_pods("nodules-master-0")


def test_status_that_somebody_empties_is_restored_without_a_second_gang(
    api: ApiServer, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    before = namespace.wait_for_pods(*GANG)
    path = f"{namespace.jobs}/nodules/status"
    api.must("PATCH", path, {"status": None}, headers=MERGE_PATCH)
    namespace.wait(lambda: namespace.status("nodules").get("attempt") == 1, "attempt 1 again")
    assert {pod["metadata"]["uid"] for pod in namespace.pods().values()} == {
        pod["metadata"]["uid"] for pod in before.values()
    }


def test_edits_all_the_while_cost_no_status_and_no_pod(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    with ThreadPoolExecutor(4) as pool:
        for _ in range(60):
            pool.submit(namespace.touch, "nodules")
        namespace.wait_for_pods(*GANG)
        for name in GANG:
            namespace.start_pod(name)
    status = namespace.wait_for_phase("nodules", "Running")
    assert [entry["type"] for entry in status["history"]] == ["Starting", "Running"]
    assert status["attempt"] == 1
