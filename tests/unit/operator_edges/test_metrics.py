"""Metrics of jobs, and the page that lists all metrics."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from trainyard_operator import jobmetrics, metrics
from trainyard_operator.contract import Cause
from trainyard_operator.jobmetrics import JobMetrics
from trainyard_operator.sweep.record import TrialRecord
from trainyard_operator.sweepmetrics import SweepMetrics

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


BEGAN = "2026-01-01T12:00:00Z"
BEGAN_SECONDS = 1767268800.0


def make_job(number: int = 1, **status: Any) -> dict[str, Any]:
    created = f"2026-01-01T12:00:{number:02d}Z"
    spec = {"recipe": "classification"}
    return {"metadata": {"creationTimestamp": created}, "spec": spec, "status": status}


def scrape(jobs: dict[Any, Any]) -> list[str]:
    """The lines with values."""
    return lines_of(JobMetrics(lambda: jobs))


def lines_of(collector: Collector) -> list[str]:
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


GOODPUT = {"ratio": "0.97", "productiveSeconds": 90, "lostSteps": 12, "restartSeconds": 3}


def test_series_of_a_job_end_with_it() -> None:
    jobs = {("research", "nodules"): make_job(phase="Succeeded", goodput=GOODPUT)}
    own = [line for line in scrape(jobs) if "nodules" in line]
    labels = '{job="nodules",namespace="research"}'
    assert own == [
        f"trainyard_job_goodput_ratio{labels} 0.97",
        f"trainyard_job_productive_seconds{labels} 90.0",
        f"trainyard_job_lost_steps{labels} 12.0",
        f"trainyard_job_restart_seconds{labels} 3.0",
    ]
    jobs.clear()
    assert [line for line in scrape(jobs) if "nodules" in line] == []


def own_values(job: dict[str, Any]) -> dict[str, float]:
    """Of its series, by metric without the common beginning."""
    found = jobmetrics.values_of(job)
    return {name.removeprefix("trainyard_job_"): value for name, value in found.items()}


def test_running_job_tells_step_checkpoint_and_storage() -> None:
    saved = {"step": 8, "time": "2026-01-01T12:01:40Z"}
    degraded = {
        "type": "StorageDegraded",
        "status": "True",
        "reason": "Unreachable",
        "lastTransitionTime": BEGAN,
    }
    status = {
        "attemptTime": BEGAN,
        "progress": {"step": 9},
        "checkpoints": {"latest": saved},
        "conditions": [degraded],
    }
    assert own_values(make_job(phase="Running", **status)) == {
        "step": 9,
        "checkpoint_timestamp_seconds": BEGAN_SECONDS + 100,
        "storage_degraded": 1,
    }
    assert own_values(make_job(phase="Restarting", **status)) == {}


def test_age_of_a_checkpoint_counts_from_the_attempt_that_came_after_it() -> None:
    saved = {"step": 8, "time": "2025-12-24T12:00:00Z"}
    job = make_job(phase="Running", attemptTime=BEGAN, checkpoints={"latest": saved})
    assert own_values(job)["checkpoint_timestamp_seconds"] == BEGAN_SECONDS


def test_program_that_never_saved_has_no_age_but_a_recipe_with_storage_has() -> None:
    status = {"phase": "Running", "attemptTime": BEGAN, "logs": {"uri": "s3://b/logs"}}
    recipe, program = make_job(**status), make_job(**status) | {"spec": {"command": ["train"]}}
    assert own_values(program) == {"storage_degraded": 0}
    assert own_values(recipe)["checkpoint_timestamp_seconds"] == BEGAN_SECONDS


def test_every_phase_is_counted_even_if_no_job_is_in_it() -> None:
    running = make_job(phase="Running")
    jobs = {("ns", "a"): running, ("ns", "b"): running, ("ns", "c"): make_job()}
    counts = [line for line in scrape(jobs) if line.startswith("trainyard_jobs{")]
    assert 'trainyard_jobs{phase="Running"} 2.0' in counts
    assert 'trainyard_jobs{phase="New"} 1.0' in counts
    assert len(counts) == 8


def make_trial(number: int, **fields: Any) -> TrialRecord:
    return TrialRecord(job=f"s-{number}", uid=f"u{number}", number=number, name="x", **fields)


def test_sweeps_are_counted_by_phase_and_trials_by_outcome() -> None:
    trials = {
        "a": [make_trial(0, phase="Succeeded"), make_trial(1, phase="Failed"), make_trial(2)],
        "b": [make_trial(0, phase="Suspended", is_suspended=True, held_by="EarlyStopping")],
        "gone": [make_trial(0)],
    }
    sweeps = {("ns", uid): {"metadata": {"uid": uid}, "status": {}} for uid in "ab"}
    sweeps["ns", "a"]["status"] = {"phase": "Running"}
    assert lines_of(SweepMetrics(lambda: sweeps, trials.__getitem__)) == [
        'trainyard_sweeps{phase="New"} 1.0',
        'trainyard_sweeps{phase="Pending"} 0.0',
        'trainyard_sweeps{phase="Running"} 1.0',
        'trainyard_sweeps{phase="Suspended"} 0.0',
        'trainyard_sweeps{phase="Succeeded"} 0.0',
        'trainyard_sweeps{phase="Failed"} 0.0',
        'trainyard_trials{outcome="Running"} 1.0',
        'trainyard_trials{outcome="Succeeded"} 1.0',
        'trainyard_trials{outcome="Failed"} 1.0',
        'trainyard_trials{outcome="Stopped"} 1.0',
    ]


def test_series_are_bounded_and_the_newest_jobs_have_them(monkeypatch: Any) -> None:
    monkeypatch.setattr(jobmetrics, "MOST_JOBS", 2)
    jobs = {("ns", f"job-{n}"): make_job(n, goodput=GOODPUT) for n in range(5)}
    lines = scrape(jobs)
    ratios = {line for line in lines if line.startswith("trainyard_job_goodput_ratio")}
    assert {re.search('job="(.*?)"', line)[1] for line in ratios} == {"job-3", "job-4"}
    assert "trainyard_jobs_without_series 3.0" in lines


def test_goodput_edited_by_hand_does_no_harm() -> None:
    jobs = {("ns", "job"): make_job(goodput={"ratio": "much", "lostSteps": None})}
    assert [line for line in scrape(jobs) if "job=" in line] == []


def test_page_lists_every_metric_with_type_labels_and_meaning() -> None:
    section = PAGE.read_text().partition("## Of the operator\n")[2].partition("\n## ")[0]
    rows = {line for line in section.splitlines() if line.startswith("| `")}
    assert rows == {row_of(family) for family in families()}


@pytest.mark.parametrize(
    ("counter", "values"),
    [
        (metrics.WATCH_RESTARTS, {"pods"}),
        (metrics.ATTEMPTS, set(Cause)),
        (metrics.ORDERS, {"none", "refused", "taken"}),
        (metrics.REPORTS, {"none", "received"}),
    ],
)
def test_counter_has_its_series_before_anything_is_counted(
    counter: Counter, values: set[str]
) -> None:
    (family,) = counter.collect()
    totals = [sample for sample in family.samples if sample.name.endswith("_total")]
    assert {value for sample in totals for value in sample.labels.values()} == values


def families() -> list[Metric]:
    own = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    described = [family for metric in own for family in metric.describe()]
    status = {"attemptTime": BEGAN, "progress": {"step": 1}, "logs": {"uri": "s3://b/logs"}}
    example = {("ns", "job"): make_job(phase="Running", goodput=GOODPUT, **status)}
    sweeps = SweepMetrics(dict, lambda _: ())
    return [*described, *JobMetrics(lambda: example).collect(), *sweeps.collect()]


def row_of(family: Metric) -> str:
    """As the page has it."""
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = {label for sample in family.samples for label in sample.labels}
    labels |= set(labels_of(family.name))
    return f"| `{name}` | {family.type} | {', '.join(sorted(labels))} | {family.documentation} |"


def labels_of(name: str) -> tuple[str, ...]:
    """Of a metric that has no value yet."""
    own = (value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase))
    return next((m._labelnames for m in own if m.describe()[0].name == name), ())
