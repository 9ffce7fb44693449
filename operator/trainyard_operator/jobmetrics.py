"""Metrics of the jobs themselves, made from what is known of them when somebody asks.

Nothing is kept, so the series of a job that was deleted ends with it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector

from trainyard_operator.reflector import Key
from trainyard_operator.status import STORAGE_DEGRADED, JobStatus, Phase, parse_status

MOST_JOBS = 1000
"""Jobs with series of their own; of more, the newest."""
GOODPUT_SERIES = {
    "trainyard_job_goodput_ratio": ("ratio", "Share of a job's time that did good, 0 to 1."),
    "trainyard_job_productive_seconds": (
        "productiveSeconds",
        "Seconds in steps that a job's newest state rests on.",
    ),
    "trainyard_job_lost_steps": ("lostSteps", "Steps of a job that had to be repeated."),
    "trainyard_job_restart_seconds": ("restartSeconds", "Seconds that a job spent in restarts."),
}
"""By metric: the field of `status.goodput`, and what it means."""
RUNNING_SERIES = {
    "trainyard_job_step": "Optimizer steps of a running job, as last reported.",
    "trainyard_job_checkpoint_timestamp_seconds": (
        "When a running job last saved a checkpoint, or its attempt began if that is later."
    ),
    "trainyard_job_storage_degraded": "Whether a running job cannot save its checkpoints: 1 or 0.",
}
"""By metric: what it means; see `_while_running`."""


@dataclass(frozen=True)
class JobMetrics(PrometheusCollector):
    """Of the jobs as the operator knows them."""

    jobs: Callable[[], Mapping[Key, dict[str, Any]]]

    def collect(self) -> Iterator[Metric]:
        """For one scrape."""
        jobs = self.jobs()
        yield phase_counts(
            "trainyard_jobs", "TrainingJobs by phase.", jobs.values(), get_args(Phase)
        )
        told = {key: found for key, job in jobs.items() if (found := values_of(job))}
        newest = sorted(told, key=lambda key: _created(jobs[key]), reverse=True)[:MOST_JOBS]
        texts = {name: text for name, (_, text) in GOODPUT_SERIES.items()} | RUNNING_SERIES
        for name, text in texts.items():
            family = GaugeMetricFamily(name, text, labels=["namespace", "job"])
            for key in newest:
                if name in told[key]:
                    family.add_metric(key, told[key][name])
            yield family
        yield GaugeMetricFamily(
            "trainyard_jobs_without_series",
            f"Jobs that have no series of their own, since {MOST_JOBS} newer ones do.",
            value=len(told) - len(newest),
        )


def values_of(job: dict[str, Any]) -> dict[str, float]:
    """What one job's own series say, by metric."""
    status = job.get("status") or {}
    goodput = status.get("goodput") or {}
    found = {name: _number(goodput.get(field)) for name, (field, _) in GOODPUT_SERIES.items()}
    if status.get("phase") == "Running":
        found |= _while_running(job, parse_status(status))
    return {name: value for name, value in found.items() if value is not None}


def _while_running(job: dict[str, Any], status: JobStatus) -> dict[str, float | None]:
    """No time of a checkpoint is told of a program that never saved one: it may keep none."""
    progress, latest = status.progress, status.checkpoints.latest
    saves = latest or (status.logs and (job.get("spec") or {}).get("recipe"))
    moments = (
        (_seconds(latest.time if latest else None), _seconds(status.attempt_time)) if saves else ()
    )
    degraded = status.condition(STORAGE_DEGRADED)
    values = (
        progress.step if progress else None,
        max((moment for moment in moments if moment), default=None),
        float(degraded is not None and degraded.status == "True"),
    )
    return dict(zip(RUNNING_SERIES, values, strict=True))


def phase_counts(
    name: str, text: str, objects: Iterable[dict[str, Any]], phases: tuple[str, ...]
) -> Metric:
    """How many are in each phase; New: the operator has not looked at them yet."""
    counts = Counter((one.get("status") or {}).get("phase") or "New" for one in objects)
    family = GaugeMetricFamily(name, text, labels=["phase"])
    for phase in ("New", *phases):
        family.add_metric([phase], counts[phase])
    return family


def _created(job: dict[str, Any]) -> str:
    return job["metadata"].get("creationTimestamp") or ""


def _number(value: Any) -> float | None:
    """A status may have been edited by hand."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _seconds(text: str | None) -> float | None:
    """Since 1970; None for what is no time."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None
