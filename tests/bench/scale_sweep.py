"""A sweep of so many one-step trials on fake nodes: what each trial costs the operator.

python tests/bench/scale_sweep.py [--trials 200,1000] [--parallelism 50]
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.scale import REQUESTS, running_ours
from bench.scale_run import COMMAND, IMAGE, Kind, Watch, cpu_seconds, peak_mb
from bench.scale_world import fake_cluster
from integration.api_server import CORE, JOBS, ApiServer

WRITES = ("POST", "PATCH", "PUT", "DELETE")
SWEEPS = "trainingsweeps"
SETTLE_SECONDS = 5.0


def main() -> None:
    """Prints a line for each number of trials."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", default="200,1000")
    parser.add_argument("--parallelism", type=int, default=50)
    arguments = parser.parse_args()
    with fake_cluster() as (api, folder):
        for count in map(int, arguments.trials.split(",")):
            measure(api, folder, count, arguments.parallelism)


def measure(api: ApiServer, folder: Path, trials: int, parallelism: int) -> None:
    """One sweep in a namespace of its own, by an operator that is started for it."""
    namespace = f"sweep-{trials}"
    api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": namespace}})
    kind = Kind(JOBS, SWEEPS, lambda name: build_sweep(name, trials, parallelism))
    with running_ours(api, folder) as operator:
        assert operator.daemon is not None
        pid = operator.daemon.process.pid
        before = cpu_seconds(pid), sum(operator.metric(REQUESTS, verb=verb) for verb in WRITES)
        with Watch(api, kind.path(namespace), has_succeeded, 1) as watch:
            began = time.perf_counter()
            api.must("POST", kind.path(namespace), kind.build("wide"))
            seconds = watch.wait() - began
        time.sleep(SETTLE_SECONDS)
        writes = sum(operator.metric(REQUESTS, verb=verb) for verb in WRITES) - before[1]
        cost = cpu_seconds(pid) - before[0]
        jobs = api.must("GET", f"{JOBS}/namespaces/{namespace}/trainingjobs")["items"]
        sweep = api.must("GET", f"{kind.path(namespace)}/wide")
        print(
            f"{trials} trials, {parallelism} at a time: {seconds:.1f} s, {len(jobs)} jobs; each "
            f"{1000 * cost / trials:.1f} ms of CPU, {writes / trials:.2f} writes; peak "
            f"{peak_mb(pid):.0f} MB; the sweep has {len(json.dumps(sweep)) / 1000:.1f} kB",
            flush=True,
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


def has_succeeded(sweep: dict[str, Any]) -> bool:
    return (sweep.get("status") or {}).get("phase") == "Succeeded"


if __name__ == "__main__":
    main()
