"""Jobs of gang schedulers and queues, against a scheduler that places whole gangs only."""

from collections.abc import Callable
from typing import Any

import pytest
from integration.api_server import ApiServer, Namespace
from integration.conftest import Operator
from integration.gang_scheduler import GangScheduler, are_crds_served, install_crds

MakeJob = Callable[..., dict[str, Any]]
GANG = ("nodules-master-0", "nodules-worker-0")
KINDS = {
    "volcano": {"gang": "volcano", "queue": "research"},
    "coscheduling": {"gang": "coscheduling"},
    "kueue": {"queue": "research"},
}


def test_a_gang_scheduler_that_is_not_installed_is_missed_in_a_sentence(
    api: ApiServer, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    """Runs first: afterwards the CRDs are there."""
    assert not are_crds_served(api)
    namespace.create(make_job(scheduling={"gang": "volcano"}))
    namespace.wait(lambda: namespace.condition("nodules", "Running"), "told")
    sentence = (
        "The API server refused a pod of this job: this cluster knows no PodGroup of "
        "scheduling.volcano.sh/v1beta1; install the gang scheduler that spec.scheduling.gang "
        "names, or set it to none."
    )
    namespace.wait(
        lambda: namespace.condition("nodules", "Running")["message"] == sentence, sentence
    )
    assert namespace.pods() == {}


@pytest.fixture
def scheduler(api: ApiServer, namespace: Namespace) -> GangScheduler:
    if not are_crds_served(api):
        install_crds(api)
        namespace.wait(lambda: are_crds_served(api), "CRDs of PodGroups")
    return GangScheduler(namespace)


@pytest.mark.parametrize("scheduling", KINDS.values(), ids=KINDS)
def test_gang_runs_whole_or_not_at_all_attempt_after_attempt(
    scheduler: GangScheduler,
    namespace: Namespace,
    operator: Operator,
    make_job: MakeJob,
    scheduling: dict[str, str],
) -> None:
    namespace.create(make_job(scheduling=scheduling))
    for attempt in (1, 2):
        namespace.wait(lambda number=attempt: is_made_for(namespace, number), f"gang {attempt}")
        scheduler.place(free=1)
        assert not any(pod["spec"].get("nodeName") for pod in namespace.pods().values())
        scheduler.place(free=2)
        namespace.wait_for_phase("nodules", "Running")
        if attempt == 1:
            namespace.delete_pod(GANG[1])
            namespace.delete_pod(GANG[0])
    for name in GANG:
        namespace.end_pod(name, 0)
    assert namespace.wait_for_phase("nodules", "Succeeded")["attempt"] == 2


def is_made_for(namespace: Namespace, attempt: int) -> bool:
    """Whether both pods of an attempt are there."""
    labels = [pod["metadata"]["labels"] for pod in namespace.pods().values()]
    return [each["trainyard.dev/attempt"] for each in labels] == [str(attempt)] * 2


def test_a_pod_outside_its_queue_is_never_placed_by_the_default_scheduler(
    scheduler: GangScheduler, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job(scheduling={"queue": "research"}))
    for pod in namespace.wait_for_pods(*GANG).values():
        assert pod["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/admission"}]
        (condition,) = pod["status"]["conditions"]
        assert (condition["type"], condition["reason"]) == ("PodScheduled", "SchedulingGated")
    sentence = "Pod nodules-master-0 waits in Kueue's queue 'research'."
    namespace.wait(
        lambda: namespace.condition("nodules", "Running").get("message") == sentence, sentence
    )


def test_a_wider_job_gets_a_wider_pod_group(
    scheduler: GangScheduler, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job(scheduling=KINDS["volcano"]))
    namespace.wait_for_pods(*GANG)
    namespace.edit("nodules", {"nodes": 3})
    namespace.wait_for_pods(*GANG, "nodules-worker-1")
    scheduler.place(free=3)
    namespace.wait_for_phase("nodules", "Running")
