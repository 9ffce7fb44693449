"""What must be equal to the bit between a run that was attacked and one that was not."""

import csv
import io
import json
from typing import Any

import torch

from trainyard_trainer.manifest import list_manifests, verify
from trainyard_trainer.restore import load_checkpoint
from trainyard_trainer.storage import Storage

TIMES = {"seconds", "time", "unstored_rows"}
"""Rows of metrics.csv bear times; metrics.csv itself is compared."""
NOT_COMPARED = {
    "attempt",
    "time",
    "samples_per_second",
    "data_wait_share",
    "memory_mebibytes",
    "straggler_rank",
    "straggler_worst",
}
"""Columns of metrics.csv that say when and how fast."""
SAME = ("step", "best_step", "metrics", "config_hash", "world_size")
"""Fields of result.json."""


def differences(calm: Storage, attacked: Storage, ranks: int) -> list[str]:
    """Every way in which the second run is not what the first one is; empty where it is."""
    return [
        *checkpoint_differences(calm, attacked, ranks),
        *metric_differences(calm, attacked),
        *result_differences(calm, attacked),
    ]


def checkpoint_differences(calm: Storage, attacked: Storage, ranks: int) -> list[str]:
    """The last checkpoint, whole: weights, averages, optimizers, schedules, generators, sums."""
    one, other = list_manifests(calm).valid[0], list_manifests(attacked).valid[0]
    for manifest in list_manifests(attacked).valid:
        verify(attacked, manifest)
    found = []
    for rank in range(ranks):
        mine, theirs = (load_checkpoint(calm, one, rank), load_checkpoint(attacked, other, rank))
        found += state_differences(mine.state, theirs.state, "state")
        assert mine.rank_state, "each rank has a state of its own"
        found += state_differences(mine.rank_state, theirs.rank_state, f"rank {rank}")
    return found + state_differences(one.metrics, other.metrics, "manifest.metrics")


def state_differences(one: Any, other: Any, path: str) -> list[str]:
    """Bit for bit, times left out."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype
        return [] if same and torch.equal(one, other) else [path]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{path}.{key}", one[key], other[key]) for key in one if key not in TIMES]
    elif isinstance(one, list | tuple) and type(one) is type(other) and len(one) == len(other):
        pairs = [(f"{path}[{at}]", *pair) for at, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if type(one) is type(other) and one == other else [path]
    return [name for where, a, b in pairs for name in state_differences(a, b, where)]


def metric_differences(calm: Storage, attacked: Storage) -> list[str]:
    """metrics.csv: each step once, with the same values."""
    one, other = read_metrics(calm), read_metrics(attacked)
    mine, theirs = ({row["step"]: row for row in rows} for rows in (one, other))
    twice = len(other) - len(theirs)
    found = [f"metrics.csv: {twice} steps more than once"] if twice else []
    for name, steps in (("calm", {*mine} - {*theirs}), ("attacked", {*theirs} - {*mine})):
        if steps:
            listed = ", ".join(sorted(steps, key=int))
            found.append(f"metrics.csv: only the {name} run has steps {listed}")
    for step in sorted({*mine} & {*theirs}, key=int):
        a, b = mine[step], theirs[step]
        names = sorted({*a, *b} - NOT_COMPARED)
        found += [f"metrics.csv: {name} of {step}" for name in names if a.get(name) != b.get(name)]
    return found


def read_metrics(storage: Storage) -> list[dict[str, str]]:
    """Its rows."""
    return list(csv.DictReader(io.StringIO(storage.read("metrics.csv").decode())))


def result_differences(calm: Storage, attacked: Storage) -> list[str]:
    """result.json, where it says what came out."""
    one, other = (json.loads(storage.read("result.json")) for storage in (calm, attacked))
    return [f"result.json: {name}" for name in SAME if one[name] != other[name]]


def account_differences(status: dict[str, Any], blows: int) -> list[str]:
    """Every kill ended one attempt, and each of those is accounted for as one restart."""
    restarts = status["restarts"]
    counted = restarts.get("user", 0) + restarts.get("infrastructure", 0)
    found = []
    if status["phase"] != "Succeeded":
        found.append(f"status: phase {status['phase']}")
    if status["attempt"] != blows + 1:
        found.append(f"status: attempt {status['attempt']} after {blows} kills")
    if counted != blows:
        found.append(f"status: {restarts} after {blows} kills")
    return found
