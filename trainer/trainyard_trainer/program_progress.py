"""What a program says of its progress, in any of three ways, as our own Report has it.

A file, a POST of the same object, or Kubeflow's TrainJob status as Transformers' KubeflowCallback
and Kubeflow's SDK post it (github.com/kubeflow/trainer, KEP-2779). Pure but for `read_file`.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trainyard_operator.contract import now_text

_WHOLE = ("epoch", "epochs", "step", "steps", "percent")
_FIELDS = (*_WHOLE, "samplesPerSecond", "stage", "estimatedCompletionTime", "metrics")
_KUBEFLOW_COUNTS = {"current_step": "step", "total_steps": "steps", "current_epoch": "epoch"}
"""How Transformers' callback names among its metrics what has a field of its own here."""
MOST_METRICS = 100
NAME_CHARACTERS = 63
LONGEST_SECONDS = 10 * 365 * 86400


def parse_progress(body: bytes) -> dict[str, Any]:
    """Our own spelling: fields of status.progress. Raises ValueError naming what is wrong."""
    found = _object(body)
    if unknown := sorted(found.keys() - set(_FIELDS)):
        raise ValueError(f"unknown key '{unknown[0]}'; there are {', '.join(sorted(_FIELDS))}")
    progress: dict[str, Any] = {key: _whole(key, found[key]) for key in _WHOLE if key in found}
    if "samplesPerSecond" in found:
        progress["samplesPerSecond"] = _number("samplesPerSecond", found["samplesPerSecond"])
    for key in ("stage", "estimatedCompletionTime"):
        if key in found:
            progress[key] = str(found[key])[:NAME_CHARACTERS]
    if not isinstance(found.get("metrics", {}), dict):
        raise ValueError("metrics: expected an object of numbers by name")
    if "metrics" in found:
        progress["metrics"] = _metrics(found["metrics"])
    return _with_percent(progress)


def parse_kubeflow(body: bytes, now: datetime | None = None) -> dict[str, Any]:
    """Kubeflow's spelling. Raises ValueError naming what is wrong."""
    status = _object(body).get("trainerStatus")
    if not isinstance(status, dict):
        raise ValueError("trainerStatus: expected an object")
    metrics = status.get("metrics") or []
    if not isinstance(metrics, list) or not all(isinstance(item, dict) for item in metrics):
        raise ValueError("trainerStatus.metrics: expected objects with name and value")
    named = {str(item.get("name")): item.get("value") for item in metrics}
    progress: dict[str, Any] = {
        field: _whole(name, named.pop(name))
        for name, field in _KUBEFLOW_COUNTS.items()
        if name in named
    }
    if "progressPercentage" in status:
        progress["percent"] = _whole("progressPercentage", status["progressPercentage"])
    if "estimatedRemainingSeconds" in status:
        left = _number("estimatedRemainingSeconds", status["estimatedRemainingSeconds"])
        end = (now or datetime.now(UTC)) + timedelta(seconds=min(left, LONGEST_SECONDS))
        progress["estimatedCompletionTime"] = now_text(end)
    if named:
        progress["metrics"] = _metrics(named)
    return progress


def read_file(path: Path) -> dict[str, Any] | None:
    """None where there is none, or it is only half written. Raises ValueError as above."""
    try:
        body = path.read_bytes()
        json.loads(body)
    except (OSError, ValueError, RecursionError):
        return None
    return parse_progress(body)


def numbers(progress: Mapping[str, Any]) -> dict[str, float]:
    """Its metrics, as numbers; those that are not finite are left out."""
    values = {name: float(text) for name, text in (progress.get("metrics") or {}).items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("expected a JSON object") from error
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(f"{name}: expected a number from 0 on")
    return number


def _whole(name: str, value: Any) -> int:
    """Transformers counts epochs in fractions."""
    return int(_number(name, value))


def _metrics(found: Mapping[str, Any]) -> dict[str, str]:
    """What can be read as a number, as decimal text."""
    metrics = {}
    for name, value in found.items():
        try:
            metrics[str(name)[:NAME_CHARACTERS]] = f"{float(value):.6g}"
        except (TypeError, ValueError, OverflowError):
            continue
        if len(metrics) == MOST_METRICS:
            break
    return metrics


def _with_percent(progress: dict[str, Any]) -> dict[str, Any]:
    step, steps = progress.get("step"), progress.get("steps")
    if "percent" in progress or step is None or not steps:
        return progress
    return progress | {"percent": 100 * min(step, steps) // steps}
