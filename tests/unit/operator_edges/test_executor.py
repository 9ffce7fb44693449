"""Carrying out a decision against an API server that the test plays."""

import asyncio
from typing import Any

import pytest
from core_objects import make_job
from unit.operator_edges.fake_api import Answer, FakeApi, refusal, serve

from trainyard_operator.decision import (
    Create,
    Decision,
    DeleteJob,
    DeletePod,
    DeletePyTorchJob,
)
from trainyard_operator.executor import Outcome, execute
from trainyard_operator.launchers import Launchers
from trainyard_operator.reflector import Reflector
from trainyard_operator.status import JobStatus

JOB = make_job()
TAKEN = (409, refusal("AlreadyExists", 'pods "a" already exists'))


def create(kind: str, name: str, version: str = "v1") -> Create:
    metadata = {"name": name, "namespace": "research"}
    return Create({"apiVersion": version, "kind": kind, "metadata": metadata})


SERVICE = create("Service", "nodules")
POD_GROUP = create("PodGroup", "nodules-1", "scheduling.volcano.sh/v1beta1")


def pod(name: str) -> Create:
    return create("Pod", name)


def carry_out(api: FakeApi, *actions: Any) -> Outcome:
    async def main() -> Outcome:
        async with serve(api) as kube:
            decision = Decision(status=JobStatus(), actions=actions)
            launchers = Launchers(Reflector(kube, (None,), print, print), print)
            return await execute(kube, launchers, JOB, decision)

    return asyncio.run(main())


def owned(by: str, name: str = "nodules", **metadata: Any) -> Answer:
    owner = {"kind": "TrainingJob", "name": name, "uid": by}
    return 200, {"metadata": {"ownerReferences": [owner], **metadata}}


def taken(found: Answer) -> FakeApi:
    """Every name is taken by that object."""
    return FakeApi(lambda method, *_: TAKEN if method == "POST" else found)


def test_service_comes_before_the_pods() -> None:
    api = FakeApi(lambda *_: (201, {}))
    assert carry_out(api, pod("a"), SERVICE, pod("b")) == Outcome()
    kinds = [path.split("/")[5].split("?")[0] for path in api.paths("POST")]
    assert kinds == ["services", "pods", "pods"]


def test_no_pod_is_created_when_the_service_is_refused() -> None:
    api = FakeApi(lambda *_: (403, refusal("Forbidden", "exceeded quota: few")))
    assert carry_out(api, SERVICE, pod("a")) == Outcome(refusal="exceeded quota: few")
    assert len(api.requests) == 1


def test_pod_group_of_a_scheduler_that_is_not_there_is_told_to_the_person() -> None:
    api = FakeApi(lambda *_: (404, {"message": "404 page not found"}))
    assert carry_out(api, POD_GROUP, pod("a")) == Outcome(
        refusal="this cluster knows no PodGroup of scheduling.volcano.sh/v1beta1; install the gang "
        "scheduler that spec.scheduling.gang names, or set it to none."
    )
    path = "/apis/scheduling.volcano.sh/v1beta1/namespaces/research/podgroups"
    assert [found.split("?")[0] for found in api.paths("POST")] == [path]


def test_pod_group_of_a_vanished_namespace_needs_nothing() -> None:
    api = FakeApi(lambda *_: (404, refusal("NotFound", 'namespaces "research" not found')))
    assert carry_out(api, POD_GROUP) == Outcome()


def test_name_taken_by_our_own_object_counts_as_created() -> None:
    assert carry_out(taken(owned("uid-1")), pod("a")) == Outcome()


def test_name_taken_by_a_stranger_is_told_to_the_person() -> None:
    assert carry_out(taken((200, {"metadata": {}})), pod("a")) == Outcome(
        refusal="Pod 'a' exists and does not belong to this job; delete it, or give the job "
        "another name."
    )


def test_what_is_about_to_go_is_waited_for_in_silence() -> None:
    leaving = {"deletionTimestamp": "2026-01-01T12:00:00Z"}
    for found in (owned("uid-0", **leaving), (200, {"metadata": leaving})):
        api = taken(found)
        assert carry_out(api, pod("a")) == Outcome(is_complete=False)
        assert api.paths("DELETE") == []


def left_by_namesake(job_uid: str) -> FakeApi:
    """Every name is taken by what another job of this name left; which job has it now."""
    left = owned("uid-0", uid="left-1")
    left[1]["metadata"]["name"] = "a"

    def answer(method: str, path: str, *_: Any) -> Answer:
        if method == "POST":
            return TAKEN
        if "trainingjobs" in path:
            return 200, {"metadata": {"uid": job_uid}}
        return left

    return FakeApi(answer)


@pytest.mark.parametrize("kind", ["Pod", "Service"])
def test_what_a_namesake_left_is_deleted_and_then_made_anew(kind: str) -> None:
    api = left_by_namesake(JOB.metadata.uid)
    assert carry_out(api, create(kind, "a")) == Outcome(is_complete=False)
    ((path, body),) = [(path, body) for method, path, body in api.requests if method == "DELETE"]
    assert path == f"/api/v1/namespaces/research/{kind.lower()}s/a"
    assert body["preconditions"] == {"uid": "left-1"}


def test_job_that_is_no_more_deletes_nothing_of_its_successor() -> None:
    api = left_by_namesake("uid-2")
    assert carry_out(api, pod("a")) == Outcome(is_complete=False)
    assert api.paths("DELETE") == []


def test_garbage_collector_clears_what_else_a_namesake_left() -> None:
    api = left_by_namesake(JOB.metadata.uid)
    assert carry_out(api, POD_GROUP) == Outcome(is_complete=False)
    assert api.paths("DELETE") == []


def test_refusal_is_the_servers_sentence_and_no_reason_to_hurry() -> None:
    sentence = 'pods "a" is forbidden: violates PodSecurity "restricted:latest"'
    api = FakeApi(lambda *_: (403, refusal("Forbidden", sentence)))
    assert carry_out(api, pod("a")) == Outcome(refusal=sentence)


def test_unreachable_server_and_conflicting_quota_are_tried_again() -> None:
    for code, reason in ((503, "ServiceUnavailable"), (409, "Conflict")):
        api = FakeApi(lambda *_, c=code, r=reason: (c, refusal(r, "later")))
        assert carry_out(api, pod("a")) == Outcome(is_complete=False)


def test_pod_of_a_vanished_namespace_needs_nothing() -> None:
    assert carry_out(FakeApi(), pod("a")) == Outcome()


def test_deletion_names_the_very_object() -> None:
    api = FakeApi(lambda *_: (200, {}))
    assert (
        carry_out(api, DeletePod(name="a", uid="pod-1", grace_seconds=5), DeleteJob()) == Outcome()
    )
    assert sorted(api.requests, key=lambda request: request[1]) == [
        (
            "DELETE",
            "/api/v1/namespaces/research/pods/a",
            {
                "preconditions": {"uid": "pod-1"},
                "propagationPolicy": "Background",
                "gracePeriodSeconds": 5,
            },
        ),
        (
            "DELETE",
            "/apis/trainyard.dev/v1alpha1/namespaces/research/trainingjobs/nodules",
            {"preconditions": {"uid": "uid-1"}, "propagationPolicy": "Background"},
        ),
    ]


def test_what_is_gone_or_another_counts_as_deleted() -> None:
    for answer in ((404, refusal("NotFound", "")), (409, refusal("Conflict", ""))):
        api = FakeApi(lambda *_, a=answer: a)
        assert carry_out(api, DeletePod(name="a", uid="pod-1"), DeleteJob()) == Outcome()


def test_pytorchjob_goes_before_its_pods_which_it_would_make_anew() -> None:
    api = FakeApi(lambda *_: (200, {}))
    drop = DeletePyTorchJob(name="nodules", uid="ptj-1")
    assert carry_out(api, DeletePod(name="a", uid="pod-1"), drop) == Outcome()
    assert api.paths("DELETE") == [
        "/apis/kubeflow.org/v1/namespaces/research/pytorchjobs/nodules",
        "/api/v1/namespaces/research/pods/a",
    ]


def test_pod_stays_while_its_pytorchjob_cannot_be_deleted() -> None:
    api = FakeApi(lambda *_: (503, refusal("ServiceUnavailable", "later")))
    drop = DeletePyTorchJob(name="nodules", uid="ptj-1")
    pod_too = DeletePod(name="a", uid="pod-1")
    assert carry_out(api, pod_too, drop) == Outcome(is_complete=False)
    assert len(api.requests) == 1


def test_cluster_without_kubeflow_is_told_to_the_person() -> None:
    metadata = {"name": "nodules", "namespace": "research"}
    kind = {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}
    create = Create({**kind, "metadata": metadata})
    missing = refusal("NotFound", "the server could not find the requested resource")
    assert carry_out(FakeApi(lambda *_: (404, missing)), create) == Outcome(
        refusal="this cluster knows no PyTorchJob of kubeflow.org/v1; install Kubeflow's "
        "training-operator, or leave spec.backend out."
    )
    gone = refusal("NotFound", 'namespaces "research" not found')
    assert carry_out(FakeApi(lambda *_: (404, gone)), create) == Outcome()
