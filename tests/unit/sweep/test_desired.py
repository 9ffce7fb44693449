"""The TrainingJobs of trials, as whole objects."""

from typing import Any

from core_sweeps import UID, make_sweep

from trainyard_operator.defaults import Defaults
from trainyard_operator.sweep.desired import build_trial
from trainyard_operator.sweep.trial import Proposal

PROPOSAL = Proposal(number=3, name="lr=0.1", overrides={"training.lr": 0.1, "model.kind": "b0"})
TRIALS = f"s3://bucket/sweeps/research/digits/{UID}/trials"


def trial(proposal: Proposal = PROPOSAL, **template: Any) -> dict[str, Any]:
    spec = {"recipe": "classification", "storage": {"uri": "s3://bucket/sweeps"}, **template}
    return build_trial(make_sweep("folds", template={"spec": spec}), proposal, Defaults())


def test_trial_is_a_job_of_its_own_below_the_sweeps_storage() -> None:
    job = trial()
    assert job["metadata"] == {
        "name": "digits-3",
        "namespace": "research",
        "labels": {
            "app.kubernetes.io/name": "trainyard",
            "app.kubernetes.io/managed-by": "trainyard-operator",
            "trainyard.dev/sweep": "digits",
            "trainyard.dev/sweep-uid": UID,
            "trainyard.dev/trial": "3",
        },
        "annotations": {
            "trainyard.dev/setting": '{"name": "lr=0.1", "overrides": '
            '{"model.kind": "b0", "training.lr": 0.1}}'
        },
        "ownerReferences": [
            {
                "apiVersion": "trainyard.dev/v1alpha1",
                "kind": "TrainingSweep",
                "name": "digits",
                "uid": UID,
                "controller": True,
            }
        ],
    }
    assert job["spec"]["storage"] == {"uri": TRIALS}
    assert job["spec"]["overrides"] == ["training.lr=0.1", "model.kind=b0"]
    assert job["spec"]["checkpoint"]["keepBest"] == {"metric": "val_accuracy", "mode": "max"}


def test_fold_and_the_templates_overrides_come_along() -> None:
    job = trial(Proposal(number=1, name="fold 1", overrides={}, fold=1), overrides=["a=1"])
    assert job["spec"]["overrides"] == ["a=1", "data.fold=1", "data.folds=3"]


def test_value_that_is_no_text_is_written_as_json() -> None:
    overrides = {"model.widths": [32, 64], "model.on": True, "model.off": None}
    job = trial(Proposal(number=0, name="x", overrides=overrides))
    assert job["spec"]["overrides"] == ["model.widths=[32,64]", "model.on=true", "model.off=null"]


def test_program_gets_its_settings_as_arguments() -> None:
    job = trial(recipe=None, command=["python", "train.py"], args=["--fast"])
    assert job["spec"]["args"] == ["--fast", "--training.lr=0.1", "--model.kind=b0"]
    assert "overrides" not in job["spec"]


def test_trial_neither_expires_nor_begins_suspended() -> None:
    policy = {"suspend": True, "ttlSecondsAfterFinished": 60, "maxRestarts": 1}
    kept = trial(runPolicy=policy)["spec"]["runPolicy"]
    assert (kept["suspend"], kept["maxRestarts"]) == (False, 1)
    assert "ttlSecondsAfterFinished" not in kept


def test_keep_best_of_the_template_stays() -> None:
    best = {"metric": "val_macro_f1", "mode": "max"}
    assert trial(checkpoint={"keepBest": best})["spec"]["checkpoint"]["keepBest"] == best


def test_objective_of_the_test_split_chooses_no_checkpoint() -> None:
    sweep = make_sweep("folds", objective={"metric": "test_accuracy", "goal": "maximize"})
    assert "keepBest" not in build_trial(sweep, PROPOSAL, Defaults())["spec"]["checkpoint"]


def test_a_trial_pauses_at_the_first_rung_and_for_nobody_else() -> None:
    asha = {"method": "asha", "minSteps": 40}
    made = build_trial(make_sweep("random", earlyStopping=asha), PROPOSAL, Defaults())
    assert made["spec"]["checkpoint"]["pauseAtStep"] == 40
    assert "pauseAtStep" not in trial(checkpoint={"pauseAtStep": 10})["spec"]["checkpoint"]
