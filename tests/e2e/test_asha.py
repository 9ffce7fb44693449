"""A search of two-pod trials that rest at their rungs, while the operator is killed."""

from typing import Any

import pytest
from e2e.kube import Namespace
from e2e.sweep_runs import Killer, SweepRun, run_to_its_end
from patience import HANG_SECONDS

pytestmark = pytest.mark.slow
NAME = "search"
RATES = [0.0001, 0.02, 0.000001, 0.005]
EPOCH_STEPS, EPOCHS = 20, 4
RUNGS = [20, 40]
KILLS = 3


@pytest.fixture(scope="module")
def run(namespace: Namespace, make_job: Any, cluster: Any) -> SweepRun:
    """After its end."""
    job = make_job(NAME, nodes=2)
    job["spec"]["config"]["training"] |= {"epochs": EPOCHS}
    del job["spec"]["checkpoint"]["keepBest"]
    spec = {
        "template": {"spec": job["spec"]},
        "method": "grid",
        "parameters": {"training.learning_rate": {"values": RATES}},
        "objective": {"metric": "val_loss", "goal": "minimize"},
        "earlyStopping": {"method": "asha", "minSteps": RUNGS[0], "reductionFactor": 2},
        "parallelism": 2,
    }
    manifest = {"apiVersion": job["apiVersion"], "kind": "TrainingSweep", "spec": spec}
    namespace.apply({**manifest, "metadata": {"name": NAME}})
    run = SweepRun(namespace, NAME, cluster.s3_endpoint)
    killer = Killer(namespace, seed=7, between=(5, 15))
    run_to_its_end(run, killer, KILLS, seconds=HANG_SECONDS)
    assert killer.kills == KILLS
    return run


def test_one_in_two_goes_on_from_each_rung(run: SweepRun) -> None:
    counts = run.status()["counts"]
    assert (counts["created"], counts["failed"]) == (4, 0)
    assert counts["succeeded"] + counts["stopped"] == 4
    assert 1 <= counts["succeeded"] <= 2


def test_the_best_went_to_its_end(run: SweepRun) -> None:
    best = run.status()["best"]
    assert best["overrides"]["training.learning_rate"] in {0.02, 0.005}
    assert run.trials()[best["job"]]["status"]["progress"]["step"] == EPOCHS * EPOCH_STEPS


def test_a_stopped_trial_rests_at_a_rung_with_its_checkpoint(run: SweepRun) -> None:
    for trial in run.trials().values():
        status = trial["status"]
        if status["phase"] != "Succeeded":
            assert status["phase"] == "Suspended"
            assert status["progress"]["step"] in RUNGS
            assert status["checkpoints"]["latest"]["step"] == status["progress"]["step"]


def test_resting_at_a_rung_is_no_failure(run: SweepRun) -> None:
    for trial in run.trials().values():
        status = trial["status"]
        rungs = sum(status["progress"]["step"] > rung for rung in RUNGS)
        assert status["attempt"] == 1 + rungs
        assert status["restarts"] == {"user": 0, "infrastructure": 0}
