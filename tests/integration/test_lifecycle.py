"""A job from apply to its end, with kubelets played by the test."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.build import component
from integration.api_server import ApiServer, Namespace
from integration.conftest import Operator
from patience import WAIT_SECONDS

MakeJob = Callable[..., dict[str, Any]]
GANG = ("nodules-master-0", "nodules-worker-0")
STARTED = ("Normal", "Starting", "Starting attempt 1: 2 nodes, 2 ranks.")
RAN = ("Normal", "Running", "Attempt 1 runs: 2 nodes, 2 ranks.")


def start_gang(namespace: Namespace, *names: str) -> None:
    """Until the job runs."""
    namespace.wait_for_pods(*(names or GANG))
    for name in names or GANG:
        namespace.start_pod(name)
    namespace.wait_for_phase("nodules", "Running")


def test_apply_creates_a_gang_and_its_service_within_a_second(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    namespace.wait_for_pods(*GANG)
    assert set(namespace.services()) == {"nodules"}
    namespace.wait(lambda: namespace.status("nodules")["phase"] == "Starting", "told in the status")
    namespace.wait(lambda: namespace.events("nodules") == [STARTED], "told once")
    # Once in five times: else the machine is busy.
    assert any(seconds_to_a_gang(namespace, make_job(f"again-{n}")) < 1 for n in range(5))


def seconds_to_a_gang(namespace: Namespace, job: dict[str, Any]) -> float:
    """From its creation to two pods."""
    before, began = len(namespace.pods()), time.monotonic()
    namespace.create(job)
    namespace.wait(lambda: len(namespace.pods()) == before + 2, "two more pods")
    seconds = time.monotonic() - began
    print(f"from apply to two pods: {seconds * 1000:.0f} ms")
    return seconds


def test_job_whose_pods_end_well_succeeds(
    api: ApiServer, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    start_gang(namespace)
    wait = [
        component("kubectl"),
        f"--kubeconfig={api.plane.kubeconfig('admin')}",
        f"--namespace={namespace.name}",
        "wait",
        "--for=condition=Succeeded",
        f"--timeout={WAIT_SECONDS:.0f}s",
        "tj/nodules",
    ]
    with subprocess.Popen(wait, stdout=subprocess.PIPE, text=True) as waiting:
        for name in GANG:
            namespace.end_pod(name, 0)
        said, _ = waiting.communicate(timeout=2 * WAIT_SECONDS)
    assert said == "trainingjob.trainyard.dev/nodules condition met\n"
    status = namespace.status("nodules")
    assert status["nodes"] == {"desired": 2, "ready": 0, "succeeded": 2, "failed": 0}
    done = ("Normal", "Succeeded", "Done.")
    namespace.wait(lambda: namespace.events("nodules") == [STARTED, RAN, done], "the whole story")
    assert set(namespace.pods()) == set(GANG), "cleanPodPolicy Running keeps what has ended"


def test_one_failure_replaces_the_whole_gang(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job(runPolicy={"restartBackoff": {"initialSeconds": 0}}))
    start_gang(namespace)
    before = {pod["metadata"]["uid"] for pod in namespace.pods().values()}
    ended = json.dumps({"exit_code": 1, "message": "rank 1: loss is NaN", "rank": 1})
    namespace.end_pod("nodules-worker-0", 1, ended)
    namespace.wait(
        lambda: namespace.pods()["nodules-master-0"]["metadata"].get("deletionTimestamp"),
        "the healthy pod asked to end",
    )
    namespace.delete_pod("nodules-master-0")
    namespace.wait(
        lambda: len({p["metadata"]["uid"] for p in namespace.pods().values()} - before) == 2,
        "two new pods",
    )
    labels = [
        pod["metadata"]["labels"]["trainyard.dev/attempt"] for pod in namespace.pods().values()
    ]
    assert labels == ["2", "2"]
    status = namespace.status("nodules")
    assert status["restarts"] == {"user": 1, "infrastructure": 0}
    assert (
        status["failure"]["message"] == "Rank 1 (pod nodules-worker-0, node node-1): loss is NaN."
    )
    assert operator.metric("trainyard_attempts_failed_total", cause="UserExit") == 1


def test_suspending_deletes_the_pods_and_resuming_makes_new_ones(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job())
    namespace.wait_for_pods(*GANG)
    namespace.edit("nodules", {"runPolicy": {"suspend": True}})
    namespace.wait_for_pods()
    assert namespace.wait_for_phase("nodules", "Suspended")["nodes"]["ready"] == 0
    namespace.edit("nodules", {"runPolicy": {"suspend": False}})
    namespace.wait_for_pods(*GANG)
    assert namespace.status("nodules")["attempt"] == 2


def test_finished_job_expires(namespace: Namespace, operator: Operator, make_job: MakeJob) -> None:
    namespace.create(make_job(nodes=1, runPolicy={"ttlSecondsAfterFinished": 0}))
    start_gang_of_one(namespace)
    namespace.end_pod("nodules-master-0", 0)
    namespace.wait(lambda: not namespace.exists("nodules"), "deleted")


def test_deleted_job_gets_no_new_pods(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job(nodes=1))
    start_gang_of_one(namespace)
    namespace.delete("nodules")
    # There is no garbage collector here.
    namespace.delete_pod("nodules-master-0")
    namespace.create(make_job("next", nodes=1))
    namespace.wait_for_pods("next-master-0")


def start_gang_of_one(namespace: Namespace) -> None:
    """Until the job runs."""
    start_gang(namespace, "nodules-master-0")


def test_operator_gets_by_with_the_rights_of_its_role(
    api: ApiServer, namespace: Namespace, operator: Operator, kubeconfig: Path
) -> None:
    # What other files left on this API server may be refused, but not for want of a right.
    log = operator.log.read_text()
    assert re.findall(r".* cannot \w+ resource .*", log) == []
    assert "the operator itself failed" not in log
    user = json.loads(kubeconfig.read_text())["users"][0]["user"]
    answer = api.send_as(user["token"], "GET", f"{namespace.core}/secrets")
    assert answer.status_code == 403
