"""When a sweep's report is written, from what, and that the status says the same."""

import math
from statistics import stdev

import pytest
from core_sweepcluster import SweepCluster, start
from core_sweeps import UID

from trainyard_operator.sweep.effects import differences
from trainyard_operator.sweep.report import lead
from trainyard_operator.sweep.table import TABLE_ENV, SweepTable

SWEEP_URI = f"s3://bucket/sweeps/research/digits/{UID}"


def table(cluster: SweepCluster) -> SweepTable:
    """What the reporting job is given."""
    container = cluster.jobs["digits-report"]["spec"]["template"]["spec"]["containers"][0]
    values = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    assert values["TRAINYARD_STORAGE_URI"] == "s3://bucket/sweeps"
    return SweepTable.from_text(values[TABLE_ENV])


def test_report_is_written_when_the_sweep_has_ended() -> None:
    cluster = start(parallelism=3)
    for number in range(3):
        cluster.succeed(f"digits-{number}", 0.5)
    cluster.settle()
    told = table(cluster)
    assert (told.is_final, [trial.value for trial in told.trials]) == (True, [0.5] * 3)
    assert cluster.status.report_uri is None
    cluster.succeed("digits-report")
    cluster.settle()
    assert cluster.status.report_uri == f"{SWEEP_URI}/report"
    command = cluster.jobs["digits-report"]["spec"]["command"]
    assert command == ["python3", "-m", "trainyard_trainer.sweep_report", SWEEP_URI]


def test_report_and_status_name_the_same_best_trial_and_mean() -> None:
    cluster = start(parallelism=3, runPolicy={"activeDeadlineSeconds": 60})
    cluster.succeed("digits-0", 0.5)
    cluster.report("digits-1", 10, 0.9)
    cluster.fail("digits-2")
    cluster.pass_time(60)
    cluster.settle()
    cluster.obey()
    cluster.settle()
    told, status = table(cluster), cluster.status
    assert [trial.state for trial in told.trials] == ["Succeeded", "Stopped", "Failed"]
    best, value = told.ranked[0]
    assert status.best is not None
    assert (best.job, value) == (status.best.job, status.best.value) == ("digits-1", 0.9)
    assert status.summary is not None
    assert (status.summary.mean, status.summary.trials) == (0.5, 1)
    assert "Best val_accuracy 0.9 (digits-1, fold-1); mean 0.5 (" in lead(told)


def test_report_of_a_sweep_that_runs_is_at_least_ten_minutes_younger_than_the_last() -> None:
    cluster = start(parallelism=1)
    cluster.succeed("digits-0", 0.5)
    cluster.settle()
    assert "digits-report" not in cluster.jobs
    cluster.pass_time(600)
    cluster.settle()
    assert len(table(cluster).trials) == 2
    cluster.succeed("digits-report")
    cluster.succeed("digits-1", 0.6)
    cluster.settle()
    assert not table(cluster).is_final
    assert table(cluster).total == 3
    cluster.succeed("digits-2", 0.7)
    cluster.settle()
    assert table(cluster).is_final


def test_report_reads_the_volume_that_the_trials_write() -> None:
    volumes = [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}}]
    mounts = [{"name": "pytorch", "volumeMounts": [{"name": "runs", "mountPath": "/runs"}]}]
    spec = {
        "recipe": "classification",
        "storage": {"uri": "file:///runs"},
        "template": {"spec": {"volumes": volumes, "containers": mounts}},
    }
    cluster = start(parallelism=3, template={"spec": spec})
    for number in range(3):
        cluster.succeed(f"digits-{number}", 0.5)
    cluster.settle()
    pod = cluster.jobs["digits-report"]["spec"]["template"]["spec"]
    assert pod["volumes"] == volumes
    assert pod["containers"][0]["volumeMounts"] == mounts[0]["volumeMounts"]


def test_variants_that_differ_in_their_seed_share_no_data() -> None:
    trials = [{"name": "A0"}, {"name": "A1", "overrides": {"model.depth": 2}}]
    cluster = start("list", trials=trials, folds=2, foldParameter="training.seed", parallelism=4)
    for number, value in enumerate([0.5, 0.7, 0.9, 0.95]):
        cluster.succeed(f"digits-{number}", value)
    cluster.settle()
    assert cluster.jobs["digits-3"]["spec"]["overrides"] == ["model.depth=2", "training.seed=1"]
    reference, [one] = differences(table(cluster))
    half = 12.7062 * stdev([0.4, 0.25]) / math.sqrt(2)  # Student's t, one degree of freedom
    assert (reference, one.label, one.count) == ("A0", "A1", 2)
    assert (one.low, one.high) == pytest.approx((0.325 - half, 0.325 + half))
