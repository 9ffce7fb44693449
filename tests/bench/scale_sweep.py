"""A sweep of so many one-step trials on fake nodes: what each trial costs the operator.

python tests/bench/scale_sweep.py [--trials 200,1000] [--parallelism 50]
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.process import cpu_seconds, peak_mb
from bench.scale import REQUESTS, running_ours
from bench.scale_run import COMMAND, IMAGE, Kind, Watch
from bench.scale_world import fake_cluster
from integration.api_server import CORE, JOBS, ApiServer
from integration.conftest import Operator

SWEEPS = "trainingsweeps"
SETTLE_SECONDS = 5.0
HALVES = ("first half", "second half")


def main() -> None:
    """Prints a line for each number of trials."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", default="200,1000")
    parser.add_argument("--parallelism", type=int, default=50)
    arguments = parser.parse_args()
    with fake_cluster() as (api, folder):
        for count in map(int, arguments.trials.split(",")):
            measure(api, folder, count, arguments.parallelism)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """By an operator, since it was started."""

    at: float
    """On the clock of perf_counter."""
    cpu: float
    patches: float
    """Of statuses and specs."""
    posts: float
    """Of jobs, pods, services and, behind all else, events."""
    peak: float
    """MB."""


def spent(operator: Operator) -> Spent:
    assert operator.daemon is not None
    pid = operator.daemon.process.pid
    patches, posts = (operator.metric(REQUESTS, verb=verb) for verb in ("PATCH", "POST"))
    now, cpu = time.perf_counter(), cpu_seconds(pid)
    return Spent(at=now, cpu=cpu, patches=patches, posts=posts, peak=peak_mb(pid))


def measure(api: ApiServer, folder: Path, trials: int, parallelism: int) -> None:
    """One sweep in a namespace of its own, by an operator that is started for it."""
    namespace = f"sweep-{trials}"
    api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": namespace}})
    kind = Kind(JOBS, SWEEPS, lambda name: build_sweep(name, trials, parallelism))
    jobs = f"{JOBS}/namespaces/{namespace}/trainingjobs"
    with (
        running_ours(api, folder) as operator,
        Watch(api, jobs, has_succeeded, trials // 2) as half,
        Watch(api, kind.path(namespace), has_succeeded, 1) as whole,
    ):
        marks = [spent(operator)]
        api.must("POST", kind.path(namespace), kind.build("wide"))
        half.wait()
        marks.append(spent(operator))
        seconds = whole.wait() - marks[0].at
        time.sleep(SETTLE_SECONDS)
        marks.append(spent(operator))
        count = len(api.must("GET", jobs)["items"])
        sweep = api.must("GET", f"{kind.path(namespace)}/wide")
    print(
        f"{trials} trials, {parallelism} at a time: {seconds:.1f} s, {count} jobs; the sweep has "
        f"{len(json.dumps(sweep)) / 1000:.1f} kB",
    )
    for name, pair in zip(HALVES, pairwise(marks), strict=True):
        print(f"  {name}: {told_of(*pair, trials / 2)}", flush=True)


def told_of(before: Spent, after: Spent, trials: float) -> str:
    """What each trial of a half cost."""
    cpu = 1000 * (after.cpu - before.cpu) / trials
    patches, posts = (after.patches - before.patches, after.posts - before.posts)
    return (
        f"each {cpu:.1f} ms of CPU, {patches / trials:.2f} patches, {posts / trials:.2f} posts; "
        f"peak by then {after.peak:.0f} MB"
    )


def build_sweep(name: str, trials: int, parallelism: int) -> dict[str, Any]:
    """Random settings of a program on one node."""
    template = {"metadata": {"labels": {"reports": "true"}}}
    job = {"nodes": 1, "image": IMAGE, "command": COMMAND, "template": template}
    spec = {
        "method": "random",
        "parameters": {"rate": {"distribution": "uniform", "min": 0, "max": 1}},
        "objective": {"metric": "loss", "goal": "minimize"},
        "maxTrials": trials,
        "parallelism": parallelism,
        "template": {"spec": job},
    }
    head = {"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingSweep"}
    return {**head, "metadata": {"name": name}, "spec": spec}


def has_succeeded(found: dict[str, Any]) -> bool:
    return (found.get("status") or {}).get("phase") == "Succeeded"


if __name__ == "__main__":
    main()
