"""Metrics of the jobs themselves, made from what is known of them when somebody asks.

Nothing is kept, so the series of a job that was deleted ends with it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector

from trainyard_operator.reflector import Key
from trainyard_operator.status import Phase

MOST_JOBS = 1000
"""Jobs with series of their own; of more, the newest."""
OWN_SERIES = {
    "trainyard_job_goodput_ratio": ("ratio", "Share of a job's time that did good, 0 to 1."),
    "trainyard_job_productive_seconds": (
        "productiveSeconds",
        "Seconds in steps that a job's newest state rests on.",
    ),
    "trainyard_job_lost_steps": ("lostSteps", "Steps of a job that had to be repeated."),
    "trainyard_job_restart_seconds": ("restartSeconds", "Seconds that a job spent in restarts."),
}
"""By metric: the field of `status.goodput`, and what it means."""


@dataclass(frozen=True)
class JobMetrics(PrometheusCollector):
    """Of the jobs as the operator knows them."""

    jobs: Callable[[], Mapping[Key, dict[str, Any]]]

    def collect(self) -> Iterator[Metric]:
        """For one scrape."""
        jobs = self.jobs()
        yield _phases(jobs)
        told = {key: found for key, job in jobs.items() if (found := _goodput(job))}
        newest = sorted(told, key=lambda key: _created(jobs[key]), reverse=True)[:MOST_JOBS]
        for name, (field, text) in OWN_SERIES.items():
            family = GaugeMetricFamily(name, text, labels=["namespace", "job"])
            for key in newest:
                if (value := _number(told[key].get(field))) is not None:
                    family.add_metric(key, value)
            yield family
        yield GaugeMetricFamily(
            "trainyard_jobs_without_series",
            f"Jobs that have no series of their own, since {MOST_JOBS} newer ones do.",
            value=len(told) - len(newest),
        )


def _phases(jobs: Mapping[Key, dict[str, Any]]) -> Metric:
    counts = Counter((job.get("status") or {}).get("phase") or "New" for job in jobs.values())
    family = GaugeMetricFamily("trainyard_jobs", "TrainingJobs by phase.", labels=["phase"])
    for phase in ("New", *get_args(Phase)):
        family.add_metric([phase], counts[phase])
    return family


def _goodput(job: dict[str, Any]) -> dict[str, Any]:
    return (job.get("status") or {}).get("goodput") or {}


def _created(job: dict[str, Any]) -> str:
    return job["metadata"].get("creationTimestamp") or ""


def _number(value: Any) -> float | None:
    """A status may have been edited by hand."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
