"""Prometheus metrics of the operator; every label has a bounded set of values.

docs/metrics.md lists them; those of jobs are in `jobmetrics`, of sweeps in `sweepmetrics`.
"""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from trainyard_operator.contract import Cause


def _counter(name: str, text: str, label: str, values: Iterable[str]) -> Counter:
    """With a series at 0 for each value of its label: Prometheus takes one that appears at 1 for
    one that did not move."""
    counter = Counter(name, text, [label])
    for value in values:
        counter.labels(value)
    return counter


API_REQUESTS = Counter(
    "trainyard_api_requests_total", "Requests to the API server.", ["verb", "code"]
)
RECONCILE_SECONDS = Histogram(
    "trainyard_reconcile_seconds", "Time of one look at one job or sweep."
)
RECONCILE_ERRORS = Counter(
    "trainyard_reconcile_errors_total", "Looks at a job or sweep that failed."
)
QUEUE_DEPTH = Gauge("trainyard_queue_depth", "Jobs and sweeps that wait to be looked at.")
QUEUE_SECONDS = Histogram(
    "trainyard_queue_seconds", "Time that one of them waited to be looked at."
)
WATCH_RESTARTS = _counter(
    "trainyard_watch_restarts_total", "Watches begun anew.", "resource", ("pods",)
)
ATTEMPTS = _counter("trainyard_attempts_failed_total", "Attempts that failed.", "cause", Cause)
LEADER = Gauge("trainyard_leader", "Whether this replica acts: 1, or 0 for one that waits.")
ORDERS = _counter(
    "trainyard_orders_total",
    "Orders given to launchers.",
    "outcome",
    ("none", "refused", "taken"),
)
REPORTS = _counter(
    "trainyard_reports_total", "Progress reports asked for.", "outcome", ("none", "received")
)
