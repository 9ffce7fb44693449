"""A pod is deleted by force while the job trains."""

from typing import Any

from e2e.kube import Namespace


def test_job_resumes_from_its_last_checkpoint_and_tells_of_both_attempts(
    namespace: Namespace, make_job: Any
) -> None:
    namespace.apply(make_job("survivor"))
    before = namespace.wait_until(
        "survivor",
        lambda s: (
            bool((s.get("checkpoints") or {}).get("latest")) and s["progress"]["percent"] < 80
        ),
        "training with a checkpoint",
    )
    namespace.kubectl("delete", "pod", "survivor-worker-0", "--force", "--grace-period=0")
    status = namespace.wait_for_phase("survivor", "Succeeded")

    assert status["attempt"] == 2
    assert status["restarts"] == {"user": 0, "infrastructure": 1}
    assert status["failure"]["cause"] == "PodDeleted"
    assert status["failure"]["message"] == "Pod survivor-worker-0 was deleted."
    story = [(entry["attempt"], entry["type"]) for entry in status["history"]]
    assert story == [
        (1, "Starting"),
        (1, "Running"),
        (1, "Restarted"),
        (2, "Starting"),
        (2, "Running"),
        (2, "Succeeded"),
    ]
    resumed = next(
        e["message"] for e in status["history"] if e["type"] == "Starting" and e["attempt"] == 2
    )
    assert "last saved at step" in resumed
    saved = before["checkpoints"]["latest"]["step"]
    assert int(resumed.split("at step ")[1].split(":")[0]) >= saved > 0
    assert status["progress"]["resumedStep"] >= saved
    assert float(status["progress"]["metrics"]["test_accuracy"]) >= 0.96
