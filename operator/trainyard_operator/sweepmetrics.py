"""Metrics of sweeps and their trials, made from what is known of them when somebody asks."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector

from trainyard_operator.jobmetrics import phase_counts
from trainyard_operator.reflector import Key
from trainyard_operator.sweep.record import TrialRecord
from trainyard_operator.sweep.status import SweepPhase
from trainyard_operator.sweep.trial import TrialState


@dataclass(frozen=True)
class SweepMetrics(PrometheusCollector):
    """Of the sweeps as the operator knows them."""

    sweeps: Callable[[], Mapping[Key, dict[str, Any]]]
    trials_of: Callable[[str], Iterable[TrialRecord]]
    """By the sweep's uid."""

    def collect(self) -> Iterator[Metric]:
        """For one scrape."""
        sweeps = self.sweeps().values()
        text = "TrainingSweeps by phase."
        yield phase_counts("trainyard_sweeps", text, sweeps, get_args(SweepPhase))
        uids = [sweep["metadata"]["uid"] for sweep in sweeps]
        counts = Counter(trial.state for uid in uids for trial in self.trials_of(uid))
        family = GaugeMetricFamily(
            "trainyard_trials",
            "Trials of the sweeps that are there, by what became of them.",
            labels=["outcome"],
        )
        for outcome in get_args(TrialState):
            family.add_metric([outcome], counts[outcome])
        yield family
