"""The Grafana dashboard: rows of panels, of which each asks for metrics of docs/metrics.md."""

import json
from dataclasses import dataclass
from typing import Any

COLUMNS, HEIGHT = 24, 8
SOURCE = {"type": "prometheus", "uid": "${source}"}
JOBS = '{namespace=~"$namespace", job=~"$job"}'


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    query: str
    legend: str = ""
    """With Prometheus' labels; empty: all of them."""
    unit: str = "short"
    kind: str = "timeseries"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Jobs",
        (
            Panel("Jobs by phase", "sum by (phase) (trainyard_jobs)", "{{phase}}"),
            Panel(
                "Failed attempts by cause, an hour",
                "sum by (cause) (increase(trainyard_attempts_failed_total[1h]))",
                "{{cause}}",
            ),
            Panel(
                "Goodput",
                f"trainyard_job_goodput_ratio{JOBS}",
                "{{namespace}}/{{job}}",
                "percentunit",
            ),
        ),
    ),
    (
        "Sweeps",
        (
            Panel("Sweeps by phase", "sum by (phase) (trainyard_sweeps)", "{{phase}}"),
            Panel("Trials by outcome", "sum by (outcome) (trainyard_trials)", "{{outcome}}"),
        ),
    ),
    (
        "Each job",
        (
            Panel(
                "Steps a second",
                f"deriv(trainyard_job_step{JOBS}[5m])",
                "{{namespace}}/{{job}}",
            ),
            Panel(
                "Since the newest checkpoint",
                f"time() - trainyard_job_checkpoint_timestamp_seconds{JOBS}",
                "{{namespace}}/{{job}}",
                "s",
            ),
            Panel(
                "Storage degraded",
                f"trainyard_job_storage_degraded{JOBS}",
                "{{namespace}}/{{job}}",
            ),
            Panel("Steps repeated", f"trainyard_job_lost_steps{JOBS}", "{{namespace}}/{{job}}"),
            Panel(
                "Time in restarts",
                f"trainyard_job_restart_seconds{JOBS}",
                "{{namespace}}/{{job}}",
                "s",
            ),
            Panel(
                "Time that did good",
                f"trainyard_job_productive_seconds{JOBS}",
                "{{namespace}}/{{job}}",
                "s",
            ),
        ),
    ),
    (
        "Operator",
        (
            Panel("Replicas that act", "sum(trainyard_leader)", "acting", kind="stat"),
            Panel("Jobs that wait to be looked at", "trainyard_queue_depth", "{{pod}}"),
            Panel(
                "Wait of a job, 95 of 100",
                "histogram_quantile(0.95, sum by (le) (rate(trainyard_queue_seconds_bucket[5m])))",
                "wait",
                "s",
            ),
            Panel(
                "One look at a job, 95 of 100",
                "histogram_quantile(0.95, "
                "sum by (le) (rate(trainyard_reconcile_seconds_bucket[5m])))",
                "look",
                "s",
            ),
            Panel(
                "Looks that failed, a second",
                "sum(rate(trainyard_reconcile_errors_total[5m]))",
                "failed",
            ),
            Panel(
                "Requests to the API server, a second",
                "sum by (verb, code) (rate(trainyard_api_requests_total[5m]))",
                "{{verb}} {{code}}",
            ),
            Panel(
                "Watches begun anew, an hour",
                "sum by (resource) (increase(trainyard_watch_restarts_total[1h]))",
                "{{resource}}",
            ),
            Panel(
                "Progress reports, a second",
                "sum by (outcome) (rate(trainyard_reports_total[5m]))",
                "{{outcome}}",
            ),
            Panel(
                "Orders to launchers, an hour",
                "sum by (outcome) (increase(trainyard_orders_total[1h]))",
                "{{outcome}}",
            ),
            Panel("Jobs without series", "sum(trainyard_jobs_without_series)", "jobs", kind="stat"),
        ),
    ),
)


def build_dashboard() -> dict[str, Any]:
    """As Grafana imports it, version 10 and later."""
    return {
        "uid": "trainyard",
        "title": "Trainyard",
        "tags": ["trainyard"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"},
                _variable("namespace", "label_values(trainyard_job_step, namespace)"),
                _variable("job", 'label_values(trainyard_job_step{namespace=~"$namespace"}, job)'),
            ]
        },
        "panels": _build_panels(),
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _build_panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    top = 0
    for title, panels in ROWS:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        found.append({"id": len(found) + 1, "type": "row", "title": title, "gridPos": place})
        width = COLUMNS // 3
        for index, panel in enumerate(panels):
            line, column = divmod(index, 3)
            place = {"x": column * width, "y": top + 1 + line * HEIGHT, "w": width, "h": HEIGHT}
            found.append(_build_panel(panel, len(found) + 1, place))
        top += 1 + HEIGHT * -(-len(panels) // 3)
    return found


def _build_panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    target = {"refId": "A", "expr": panel.query, "legendFormat": panel.legend or "__auto"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [target | {"datasource": SOURCE}],
    }


def render_dashboard() -> str:
    """The file's text."""
    return json.dumps(build_dashboard(), indent=1) + "\n"
