"""What rank 0 warns of: told once, and storage's state kept as a condition."""

from core_objects import DEFAULTS, RECIPE, at, make_job, make_pods, make_status, text

from trainyard_operator.contract import Report
from trainyard_operator.decision import Decision
from trainyard_operator.notices import is_worth_a_look
from trainyard_operator.observed import Observed
from trainyard_operator.plan import plan
from trainyard_operator.status import STORAGE_DEGRADED, JobStatus

JOB = make_job(**RECIPE)
AWAY = "https://s3.example does not answer; checkpoints are kept on the node."
CORRUPT = "Checkpoint step 6000 is corrupt: part-3.pt differs from its SHA-256. Set aside"
# The running gang, with all that a pass without a report says.
RUNNING = plan(JOB, make_status(), Observed(pods=make_pods(JOB)), at(0), DEFAULTS).status


def hear(status: JobStatus, seconds: float = 10, **fields) -> Decision:
    report = Report(**{"attempt": 1, "time": text(seconds), "progress": {"step": 7}} | fields)
    observed = Observed(pods=make_pods(JOB), report=report)
    return plan(JOB, status, observed, at(seconds), DEFAULTS)


def test_degraded_storage_is_a_condition_and_told_once():
    first = hear(RUNNING, storage_warning=AWAY, warning=AWAY)
    assert [(e.type, e.reason, e.message) for e in first.events] == [
        ("Warning", "StorageDegraded", AWAY)
    ]
    condition = first.status.condition(STORAGE_DEGRADED)
    assert condition
    assert (condition.status, condition.reason, condition.message) == ("True", "Degraded", AWAY)
    assert condition.last_transition_time == text(10)
    entry = first.status.history[-1]
    assert (entry.type, entry.message, entry.step) == ("StorageDegraded", AWAY, 7)
    second = hear(first.status, 12, storage_warning=f"{AWAY} Since 12:00.", warning="")
    assert second.events == ()
    newer = second.status.condition(STORAGE_DEGRADED)
    assert newer
    assert (newer.message, newer.last_transition_time) == (f"{AWAY} Since 12:00.", text(10))


def test_the_end_of_it_is_told_and_the_condition_stays_as_false():
    degraded = hear(RUNNING, storage_warning=AWAY).status
    well = hear(degraded, 20)
    assert [(e.type, e.message) for e in well.events] == [("Normal", "Storage is well again.")]
    condition = well.status.condition(STORAGE_DEGRADED)
    assert condition
    assert (condition.status, condition.message) == ("False", "")
    assert hear(well.status, 22).events == ()


def test_storage_that_was_always_well_has_no_condition():
    assert hear(RUNNING).status.condition(STORAGE_DEGRADED) is None


def test_without_a_report_the_condition_stays():
    degraded = hear(RUNNING, storage_warning=AWAY).status
    later = plan(JOB, degraded, Observed(pods=make_pods(JOB)), at(30), DEFAULTS)
    assert later.status == degraded
    assert later.events == ()


def test_a_checkpoint_set_aside_is_told_once_in_each_attempt():
    first = hear(RUNNING, warning=CORRUPT)
    assert [(e.type, e.reason, e.message) for e in first.events] == [
        ("Warning", "TrainerWarning", f"{CORRUPT}.")
    ]
    assert first.status.history[-1].message == f"{CORRUPT}."
    assert first.status.condition(STORAGE_DEGRADED) is None
    assert hear(first.status, 12, warning=CORRUPT).events == ()


def test_the_same_about_another_step_is_no_news():
    told = hear(RUNNING, warning="Checkpoint step 20 was not saved: no answer").status
    assert hear(told, 12, warning="Checkpoint step 40 was not saved: no answer").events == ()


def test_a_report_that_warns_wakes_the_job_until_it_was_told():
    report = Report(attempt=1, time=text(10), warning=CORRUPT, storage_warning=AWAY)
    assert is_worth_a_look(RUNNING, report)
    told = plan(JOB, RUNNING, Observed(pods=make_pods(JOB), report=report), at(10), DEFAULTS)
    assert len(told.events) == 2
    assert not is_worth_a_look(told.status, report)


def test_a_report_of_another_attempt_warns_of_nothing():
    assert hear(RUNNING, attempt=0, storage_warning=AWAY).events == ()
