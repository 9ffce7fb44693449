"""Ranks are killed inside their pods while the job trains; the pods stay."""

import json
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
from e2e.kube import Namespace
from patience import lateness

from trainyard_operator.contract import attempt_line

NAME = "phoenix"
KILLS = 5
SECONDS_AT_THE_MEDIAN = 1.5
# Runs in a pod: kills its rank, then asks the first pod until the next attempt reports a step that
# it trained itself. Rank 0 reports twice a second, which the printed time includes.
KILL_AND_WATCH = """
import json, os, signal, sys, time, urllib.request
rank, attempt = int(sys.argv[1]), int(sys.argv[2])
url = f"http://{os.environ['MASTER_ADDR']}:{os.environ['TRAINYARD_PROGRESS_PORT']}/progress"
pid = int(open(f"{os.environ['TRAINYARD_SCRATCH']}/rank-{rank}.pid").read())
os.kill(pid, signal.SIGKILL)
began = time.monotonic()
while time.monotonic() < began + 120:
    try:
        report = json.load(urllib.request.urlopen(url, timeout=5))
    except (OSError, ValueError):
        report = {"attempt": 0}
    if report["attempt"] == attempt and report["progress"]["step"] > (report["resumed_step"] or 0):
        break
    time.sleep(0.01)
print(json.dumps({"seconds": time.monotonic() - began, "report": report}))
"""


def pods_of(namespace: Namespace) -> dict[str, str]:
    """Name and uid of each pod of the job."""
    selector = f"trainyard.dev/job={NAME}"
    found = json.loads(namespace.kubectl("get", "pods", "-l", selector, "-o", "json"))
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found["items"]}


def kill_rank(namespace: Namespace, rank: int, next_attempt: int) -> float:
    """Seconds from the kill until a step of the next attempt was reported."""
    pod = f"{NAME}-master-0" if rank == 0 else f"{NAME}-worker-{rank - 1}"
    words = ("python3", "-c", KILL_AND_WATCH, str(rank), str(next_attempt))
    said = json.loads(namespace.kubectl("exec", pod, "-c", "pytorch", "--", *words))
    assert said["report"]["attempt"] == next_attempt, namespace.explain(NAME)
    return float(said["seconds"])


def has_trained(attempt: int) -> Any:
    """Whether the status shows an attempt well beyond the step that it began from."""

    def question(status: dict[str, Any]) -> bool:
        progress = status.get("progress") or {}
        began = progress.get("resumedStep", 0)
        is_saved = bool((status.get("checkpoints") or {}).get("latest"))
        return is_saved and progress.get("attempt") == attempt and progress["step"] > began + 20

    return question


@pytest.fixture(scope="module")
def seconds(
    namespace: Namespace, make_job: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[float]]:
    """How long each kill cost, but for what a busy machine costs; the job goes on, and makes room
    for others at the end."""
    job = make_job(NAME, runPolicy={"maxRestarts": KILLS})
    job["spec"]["config"]["training"]["epochs"] = 200
    namespace.apply(job)
    costs = []
    for kill in range(KILLS):
        namespace.wait_until(NAME, has_trained(kill + 1), f"training, kill {kill}")
        if kill == 0:
            before = pods_of(namespace)
        with lateness(tmp_path_factory.mktemp("late") / "written") as late:
            cost = kill_rank(namespace, kill % 2, kill + 2)
            costs.append(cost - late())
    assert pods_of(namespace) == before, "pods were replaced"
    yield costs
    namespace.kubectl("delete", "tj", NAME)
    selector = f"trainyard.dev/job={NAME}"
    namespace.kubectl("wait", "--for=delete", "pod", "-l", selector, "--timeout=300s")


def test_ranks_are_back_soon_in_the_pods_that_were_there(seconds: list[float]) -> None:
    told = ", ".join(f"{cost:.2f}" for cost in seconds)
    print(f"from SIGKILL to a reported new step: {told} s; median {statistics.median(seconds):.2f}")
    assert statistics.median(seconds) < SECONDS_AT_THE_MEDIAN


def test_status_events_and_history_tell_of_it(seconds: list[float], namespace: Namespace) -> None:
    last = KILLS + 1
    status = namespace.wait_until(
        NAME, lambda s: (s["attempt"], s["phase"]) == (last, "Running"), "running again"
    )
    assert (status["podsAttempt"], status["restarts"]["user"]) == (1, KILLS)
    story = [(entry["attempt"], entry["type"]) for entry in status["history"]][-2:]
    assert story == [(KILLS, "Restarted"), (last, "Running")]
    restarted = status["history"][-2]
    assert restarted["message"].startswith(f"Rank 0 (pod {NAME}-master-0, node ")
    assert restarted["message"].endswith(f"Restarted in place; restart {KILLS} of {KILLS}.")
    described = namespace.kubectl("describe", "tj", NAME)
    assert f"Restarted in place; restart {KILLS} of {KILLS}." in described
    assert f"Attempt {last} runs in the same pods: 2 nodes, 2 ranks." in described


def test_logs_tell_the_attempts_apart(seconds: list[float], namespace: Namespace) -> None:
    first = namespace.trainyard("logs", NAME, "--rank", "1", "--attempt", "1").splitlines()
    second = namespace.trainyard("logs", NAME, "--rank", "1", "--attempt", "2").splitlines()
    assert "attempt 1, recipe classification" in first[0]
    assert f"[node 1] {attempt_line(2)}" not in first
    assert second[0] == f"[node 1] {attempt_line(2)}"
    assert f"[node 1] {attempt_line(3)}" not in second
