"""What becomes of a sweep, decided from its trials alone."""

from typing import Any

import pytest
from core_sweepcluster import SweepCluster, start
from core_sweeps import make_sweep

from trainyard_operator.sweep.decision import DeleteSweep


def told(cluster: SweepCluster, type_: str) -> tuple[str, str]:
    condition = cluster.status.condition(type_)
    assert condition is not None
    assert condition.status == "True"
    return condition.reason, condition.message


def test_so_many_trials_run_as_parallelism_says() -> None:
    cluster = start(parallelism=2)
    assert cluster.made == ["digits-0", "digits-1"]
    cluster.succeed("digits-0", 0.9)
    cluster.settle()
    assert cluster.made == ["digits-0", "digits-1", "digits-2"]


def test_raised_parallelism_starts_more_trials() -> None:
    cluster = start()
    cluster.edit(parallelism=3)
    cluster.settle()
    assert len(cluster.active()) == 3


def test_sweep_succeeds_with_mean_and_deviation_of_its_folds() -> None:
    cluster = start(parallelism=3)
    for number, value in enumerate([0.5, 0.75, 1.0]):
        cluster.succeed(f"digits-{number}", value)
    cluster.settle()
    status = cluster.status
    assert status.phase == "Succeeded"
    assert told(cluster, "Succeeded") == (
        "Succeeded",
        "Done: 3 of 3 trials succeeded; best val_accuracy 1 (digits-2, fold-2).",
    )
    assert status.summary is not None
    assert status.summary.to_dict() == {
        "metric": "val_accuracy",
        "mean": 0.75,
        "std": 0.25,
        "trials": 3,
    }
    assert status.best is not None
    assert (status.best.job, status.best.value, status.best.fold) == ("digits-2", 1.0, 2)
    assert status.display.to_dict() == {
        "trials": "3/3",
        "best": "1 (digits-2)",
        "summary": "0.75 ± 0.25",
        "reason": "Succeeded",
    }


def test_smallest_value_is_best_where_the_goal_is_to_minimize() -> None:
    cluster = start(objective={"metric": "val_loss", "goal": "minimize"}, parallelism=3)
    for number, value in enumerate([0.5, 0.25, 1.0]):
        cluster.succeed(f"digits-{number}", value, "val_loss")
    cluster.settle()
    assert cluster.status.best is not None
    assert cluster.status.best.job == "digits-1"


def test_failed_trial_is_counted_and_the_others_go_on() -> None:
    cluster = start(parallelism=3)
    cluster.fail("digits-0", message="Rank 0 failed: ValueError: bad.")
    cluster.succeed("digits-1", 0.5)
    cluster.succeed("digits-2", 0.7)
    cluster.settle()
    assert cluster.status.phase == "Succeeded"
    assert told(cluster, "Succeeded")[1] == (
        "Done: 2 of 3 trials succeeded, 1 failed; best val_accuracy 0.7 (digits-2, fold-2)."
    )
    failed = [event.message for event in cluster.events if event.reason == "TrialFailed"]
    assert failed == ["Trial digits-0 failed: Rank 0 failed: ValueError: bad."]


def test_sweep_fails_when_every_trial_does() -> None:
    cluster = start(parallelism=3)
    for number in range(3):
        cluster.fail(f"digits-{number}")
    cluster.settle()
    assert told(cluster, "Failed") == (
        "NoTrialSucceeded",
        "No trial succeeded: all of them failed; digits-0 first: Rank 0 failed.",
    )


def test_more_failed_trials_than_allowed_stop_the_others_with_a_checkpoint() -> None:
    cluster = start(parallelism=3, failurePolicy={"maxFailedTrials": 0})
    cluster.fail("digits-1")
    cluster.settle()
    assert told(cluster, "Failed") == (
        "TooManyFailedTrials",
        "1 trial failed, more than failurePolicy.maxFailedTrials (0); digits-1: Rank 0 failed.",
    )
    cluster.obey()
    assert cluster.active() == []


def test_setting_that_the_recipe_does_not_have_ends_the_sweep_with_its_sentence() -> None:
    cluster = start()
    sentence = "spec.overrides: unknown key 'training.lrr'; did you mean 'training.lr'?"
    cluster.fail("digits-0", "ConfigurationError", sentence)
    cluster.settle()
    assert told(cluster, "Failed") == (
        "ConfigurationError",
        f"Trial digits-0 cannot run as written: {sentence}",
    )
    assert cluster.made == ["digits-0"]


def test_one_bad_setting_among_good_ones_is_a_failed_trial() -> None:
    cluster = start()
    cluster.succeed("digits-0", 0.5)
    cluster.settle()
    cluster.fail("digits-1", "ConfigurationError", "bad.")
    cluster.settle()
    assert cluster.status.phase == "Running"
    assert cluster.made[-1] == "digits-2"


def test_suspended_sweep_holds_its_trials_and_goes_on_with_them() -> None:
    cluster = start(parallelism=2)
    cluster.report("digits-0", 10, 0.5)
    cluster.edit(runPolicy={"suspend": True})
    cluster.settle()
    cluster.obey()
    assert (cluster.status.phase, cluster.active()) == ("Suspended", [])
    cluster.edit(runPolicy={"suspend": False})
    cluster.settle()
    cluster.obey()
    assert cluster.status.phase == "Running"
    assert cluster.active() == ["digits-0", "digits-1"]
    assert cluster.made == ["digits-0", "digits-1"]


def test_trial_that_somebody_suspended_is_left_so_and_waited_for() -> None:
    cluster = start()
    cluster.jobs["digits-0"]["spec"]["runPolicy"]["suspend"] = True
    cluster.obey()
    cluster.settle()
    assert cluster.status.phase == "Running"
    assert cluster.jobs["digits-0"]["spec"]["runPolicy"]["suspend"] is True
    assert cluster.made == ["digits-0"]


def test_deadline_ends_the_sweep_and_keeps_checkpoints() -> None:
    cluster = start(runPolicy={"activeDeadlineSeconds": 60})
    assert cluster.decide().wake_at is not None
    cluster.pass_time(60)
    cluster.settle()
    cluster.obey()
    assert told(cluster, "Failed") == (
        "DeadlineExceeded",
        "The sweep took longer than runPolicy.activeDeadlineSeconds (60 s).",
    )
    assert cluster.active() == []
    assert cluster.status.trials[0].phase == "Stopped"


def test_finished_sweep_expires_with_its_trials() -> None:
    cluster = start(parallelism=3, runPolicy={"ttlSecondsAfterFinished": 60})
    for number in range(3):
        cluster.succeed(f"digits-{number}", 0.5)
    cluster.settle()
    cluster.pass_time(60)
    cluster.settle()
    assert not cluster.is_deleted  # Its report is not written yet.
    cluster.succeed("digits-report")
    cluster.refresh()
    assert cluster.decide().actions == (DeleteSweep(),)


def test_finished_sweep_makes_no_trial_that_somebody_deleted() -> None:
    cluster = start(parallelism=3)
    for number in range(3):
        cluster.succeed(f"digits-{number}", 0.5)
    cluster.settle()
    del cluster.jobs["digits-1"]
    cluster.settle()
    assert len(cluster.made) == 3


def test_deleted_sweep_begins_no_trial() -> None:
    cluster = start()
    cluster.succeed("digits-0", 0.5)
    meta = cluster.sweep.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T12:00:00Z"})
    cluster.sweep = cluster.sweep.model_copy(update={"metadata": meta})
    cluster.settle()
    assert cluster.made == ["digits-0"]


@pytest.mark.parametrize(
    "change",
    [
        {"folds": 4},
        {"template": {"spec": {"recipe": "classification", "overrides": ["model.depth=3"]}}},
    ],
)
def test_change_that_would_mix_results_is_refused_until_it_is_taken_back(
    change: dict[str, Any],
) -> None:
    cluster = start()
    before = {key: cluster.sweep.spec.to_dict()[key] for key in change}
    template = cluster.sweep.spec.template.to_dict()
    if "template" in change:
        change["template"]["spec"]["storage"] = template["spec"]["storage"]
    cluster.edit(**change)
    cluster.succeed("digits-0", 0.5)
    cluster.settle()
    accepted = cluster.status.condition("Accepted")
    assert accepted is not None
    assert accepted.status == "False"
    assert accepted.message == (
        "spec: was changed in a way that would mix results of two kinds; change it back, or create "
        "another TrainingSweep. Free to change are parallelism, maxTrials, failurePolicy, "
        "runPolicy, and the template's resources, scheduling, runPolicy, logs, tensorBoard and "
        "template."
    )
    assert cluster.made == ["digits-0"]
    cluster.edit(**before)
    cluster.settle()
    assert cluster.made == ["digits-0", "digits-1"]


def test_sweep_within_anothers_storage_begins_once_that_is_gone() -> None:
    cluster = SweepCluster(make_sweep(), rival="research/first")
    cluster.settle()
    accepted = cluster.status.condition("Accepted")
    assert accepted is not None
    assert (accepted.status, accepted.message) == (
        "False",
        "spec.template.spec.storage.uri: lies within the storage of TrainingSweep "
        "'research/first'; give each sweep a prefix outside of the other's.",
    )
    assert (cluster.made, cluster.decide().wake_at is None) == ([], False)
    cluster.rival = ""
    cluster.settle()
    assert cluster.made == ["digits-0"]


def test_more_memory_for_later_trials_is_no_change_of_results() -> None:
    cluster = start()
    template = cluster.sweep.spec.template.to_dict()
    template["spec"]["resources"] = {"limits": {"memory": "8Gi"}}
    cluster.edit(template=template)
    cluster.succeed("digits-0", 0.5)
    cluster.settle()
    assert cluster.jobs["digits-1"]["spec"]["resources"]["limits"] == {"memory": "8Gi"}


def test_recipe_without_storage_is_refused() -> None:
    cluster = start(template={"spec": {"recipe": "classification"}})
    accepted = cluster.status.condition("Accepted")
    assert accepted is not None
    assert (accepted.status, accepted.message) == (
        "False",
        "spec.template.spec.storage: a recipe needs somewhere for its checkpoints; set "
        "storage.uri, such as s3://bucket/prefix.",
    )
    assert cluster.made == []


def test_status_shows_at_most_64_trials_the_best_and_the_newest() -> None:
    values = list(range(200))
    cluster = start("grid", parameters={"training.seed": {"values": values}}, parallelism=200)
    for number in values:
        cluster.succeed(f"digits-{number}", 1 - number / 1000)
    cluster.settle()
    shown = [row.number for row in cluster.status.trials]
    assert shown == [*range(16), *range(152, 200)]
    assert cluster.status.counts.succeeded == 200


def test_trial_stopped_early_keeps_its_place_until_its_pods_are_gone() -> None:
    cluster = start(
        "random",
        earlyStopping={"method": "asha", "minSteps": 10, "reductionFactor": 2},
        parallelism=2,
        maxTrials=4,
    )
    cluster.report("digits-0", 10, 0.9)
    cluster.settle()
    cluster.report("digits-1", 10, 0.1)
    cluster.settle()
    assert cluster.jobs["digits-1"]["spec"]["runPolicy"]["suspend"] is True
    assert cluster.made == ["digits-0", "digits-1"]
    assert cluster.status.trials[1].phase == "Stopped"
    assert cluster.status.trials[1].message
    cluster.obey()
    cluster.settle()
    assert cluster.made == ["digits-0", "digits-1", "digits-2"]


def test_trials_rest_at_rungs_and_one_comes_to_its_end() -> None:
    stopping = {"method": "asha", "minSteps": 10, "reductionFactor": 2}
    cluster = start("random", earlyStopping=stopping, parallelism=2, maxTrials=2)
    cluster.pause("digits-0", 10, 0.9)
    cluster.settle()
    assert cluster.status.trials[0].message == (
        "Rank 1 of 1, too few for one in 2 to go on yet, at step 10: stopped with its checkpoint."
    )
    cluster.pause("digits-1", 10, 0.1)
    cluster.settle()
    first, second = (cluster.jobs[f"digits-{number}"]["spec"] for number in (0, 1))
    assert (first["runPolicy"]["suspend"], first["checkpoint"]["pauseAtStep"]) == (False, 20)
    assert (second["runPolicy"]["suspend"], second["checkpoint"]["pauseAtStep"]) == (True, 10)
    cluster.obey()
    cluster.pause("digits-0", 20, 0.95)
    cluster.settle()
    first = cluster.jobs["digits-0"]["spec"]  # Alone at its rung, and none is to come.
    assert (first["runPolicy"]["suspend"], first["checkpoint"]["pauseAtStep"]) == (False, 40)
    cluster.obey()
    cluster.succeed("digits-0", 0.97)
    cluster.settle()
    counts = cluster.status.counts
    assert (cluster.status.phase, counts.succeeded, counts.stopped) == ("Succeeded", 1, 1)


def test_a_paused_trial_is_held_with_the_sweep_and_goes_on_with_it() -> None:
    stopping = {"method": "asha", "minSteps": 10, "reductionFactor": 2}
    cluster = start("random", earlyStopping=stopping, maxTrials=2)
    cluster.pause("digits-0", 10, 0.9)
    cluster.edit(runPolicy={"suspend": True})
    cluster.settle()
    assert cluster.jobs["digits-0"]["spec"]["runPolicy"]["suspend"] is True
    cluster.edit(runPolicy={"suspend": False})
    cluster.settle()
    assert cluster.jobs["digits-0"]["spec"]["runPolicy"]["suspend"] is True
    assert cluster.status.trials[0].phase == "Stopped"
    assert cluster.made == ["digits-0", "digits-1"]


def test_trial_that_the_api_server_refuses_is_told_once_and_tried_again() -> None:
    cluster = start(parallelism=2)
    cluster.create_error = "exceeded quota"
    cluster.settle()
    assert told(cluster, "Running") == (
        "Waiting",
        "The API server refused a trial: exceeded quota.",
    )
    assert cluster.decide().wake_at is not None
    cluster.create_error = ""
    cluster.settle()
    assert [event.reason for event in cluster.events] == ["Running", "Waiting", "Running"]


def test_one_trial_is_told_in_the_singular() -> None:
    cluster = start("list", trials=[{"name": "A0"}])
    assert told(cluster, "Running")[1] == "Running: 1 trial by list, 1 at a time."
    cluster.succeed("digits-0", 0.5)
    cluster.settle()
    assert told(cluster, "Succeeded")[1] == (
        "Done: 1 of 1 trial succeeded; best val_accuracy 0.5 (digits-0, A0)."
    )
