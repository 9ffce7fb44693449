"""Reports taken over into the status, and the columns made from it."""

import dataclasses

import pytest
from core_objects import at, exited, make_job, make_pod, make_status, text

from trainyard_operator.contract import Report
from trainyard_operator.progress import (
    build_display,
    count_nodes,
    is_new_report,
    lost_steps,
    parse_report,
    with_report,
)
from trainyard_operator.status import Display, Restarts

PROGRESS = {
    "stage": "full",
    "epoch": 12,
    "epochs": 100,
    "step": 6120,
    "steps": 51000,
    "percent": 12,
    "samplesPerSecond": 41.3,
    "metrics": {"train_loss": "0.214", "froc_score": "0.71"},
}
LATEST = {"step": 6000, "uri": "s3://b/latest", "bytes": 7, "sha256": "ab"}
BEST = {"step": 5000, "metric": "froc_score", "value": "0.73"}
REPORT = Report(attempt=1, time=text(60), progress=PROGRESS, latest=LATEST, best=BEST, kept=4)
KNOWN = with_report(make_status(), REPORT)


def report(**fields) -> Report:
    return Report(**{"attempt": 1, "time": text(90)} | fields)


def test_a_report_fills_progress_and_checkpoints():
    assert KNOWN.progress
    assert KNOWN.progress.to_dict() == PROGRESS | {"lastReportTime": text(60), "attempt": 1}
    assert KNOWN.checkpoints.to_dict() == {"latest": LATEST, "best": BEST, "kept": 4}


def test_goodput_is_taken_over_and_its_seconds_alone_are_no_news():
    goodput = {"productiveSeconds": 95, "lostSteps": 10, "restartSeconds": 20, "ratio": "0.68"}
    known = with_report(KNOWN, report(goodput=goodput))
    assert known.goodput
    assert known.goodput.to_dict() == goodput
    assert with_report(known, report()).goodput == known.goodput
    older = dataclasses.replace(REPORT, time=text(95), goodput=goodput | {"productiveSeconds": 96})
    assert not is_new_report(known, older, at(95))
    assert with_report(known, report(goodput={"ratio": ["0.7"]})).goodput == known.goodput


def test_what_a_report_leaves_out_stays():
    assert with_report(KNOWN, report()) == KNOWN
    newer = with_report(KNOWN, report(latest={"step": 6500}))
    assert newer.progress == KNOWN.progress
    assert newer.checkpoints.to_dict() == {"latest": {"step": 6500}, "best": BEST, "kept": 4}


@pytest.mark.parametrize(
    "stale", [None, report(attempt=2, kept=9), report(attempt=0, kept=9)], ids=str
)
def test_a_report_of_another_attempt_changes_nothing(stale):
    assert with_report(KNOWN, stale) is KNOWN


@pytest.mark.parametrize(
    "fields",
    [
        {"progress": {"step": "many"}},
        {"progress": {"metrics": {"loss": [1]}}},
        {"progress": [1]},
        {"kept": "four"},
        {"time": 7},
        {"latest": {"uri": "s3://no-step"}},
        {"best": {"step": None}},
    ],
    ids=str,
)
def test_a_malformed_part_of_a_report_is_left_out(fields):
    assert with_report(KNOWN, report(**fields)) == KNOWN


def test_numbers_that_json_cannot_hold_are_left_out():
    status = with_report(KNOWN, report(progress={"step": 7, "samplesPerSecond": float("nan")}))
    assert status.progress
    assert status.progress.to_dict() == {
        "step": 7,
        "metrics": {},
        "lastReportTime": text(90),
        "attempt": 1,
    }


def test_last_words_are_not_undone_by_a_report_collected_before():
    last = with_report(KNOWN, report(progress={"step": 6300}, latest={"step": 6300}))
    collected = dataclasses.replace(report(progress={"step": 6200}), time=text(80))
    assert with_report(last, collected) is last


def test_a_new_attempt_may_have_a_slower_clock():
    again = KNOWN.model_copy(update={"attempt": 2})
    slow = dataclasses.replace(report(attempt=2, progress={"step": 6300}), time=text(1))
    progress = with_report(again, slow).progress
    assert progress
    assert progress.step == 6300


def test_a_summarys_report_of_a_newer_trainer_is_read():
    assert parse_report({"attempt": 1, "time": text(0), "invented": 1}) == Report(
        attempt=1, time=text(0)
    )
    assert parse_report({"attempt": "x"}) is None
    assert parse_report(None) is None


def test_a_report_is_new_when_more_than_its_time_changed():
    assert not is_new_report(KNOWN, report(progress=PROGRESS), at(90))
    assert is_new_report(KNOWN, report(progress=PROGRESS | {"step": 6121}), at(90))
    assert is_new_report(KNOWN, report(latest={"step": 6500}), at(90))


def test_lost_steps_are_those_since_the_last_checkpoint():
    assert lost_steps(KNOWN) == 120
    assert lost_steps(make_status()) is None
    assert lost_steps(with_report(make_status(), report(progress={"step": 40}))) == 40


def test_an_attempt_that_never_reported_lost_nothing():
    again = KNOWN.model_copy(update={"attempt": 2, "attempt_time": text(100)})
    assert lost_steps(again) is None


def test_nodes_are_counted_by_what_became_of_them():
    job = make_job(4)
    pods = (
        make_pod(job, 0),
        make_pod(job, 1, deadline=at(60)),
        make_pod(job, 2, **exited(0)),
        make_pod(job, 3, **exited(1)),
    )
    assert count_nodes(pods, 4).to_dict() == {
        "desired": 4,
        "ready": 1,
        "succeeded": 1,
        "failed": 1,
    }


def test_columns_are_ready_to_read():
    job = make_job()
    status = KNOWN.model_copy(
        update={"nodes": count_nodes((make_pod(job),), 2), "restarts": Restarts(user=1)}
    )
    assert build_display(status, "Running", (make_pod(job, 1), make_pod(job))) == Display(
        progress="12%",
        step="6120/51000",
        loss="0.214",
        nodes="1/2",
        restarts="1",
        best="froc_score 0.73",
        reason="Running",
        node="gpu-0",
    )
    assert build_display(make_status(), "", ()) == Display(nodes="0/0", restarts="0")


def test_a_step_without_an_end_stands_alone():
    status = with_report(make_status(), report(progress={"step": 40, "metrics": {"loss": "2"}}))
    display = build_display(status, "", ())
    assert (display.step, display.loss, display.progress) == ("40", "2", "")
