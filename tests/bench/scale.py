"""Our operator beside Kubeflow's training-operator v1.9.4 on one API server with fake nodes.

python tests/bench/scale.py [--jobs 200] [--rounds 3] [--others raised,default] [--latency]
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.comparison import quantile
from bench.process import peak_mb
from bench.scale_progress import Training, reporting, writes_a_second
from bench.scale_run import (
    OURS,
    STANDING,
    THEIRS,
    Round,
    Watch,
    create_jobs,
    run_round,
)
from bench.scale_world import fake_cluster
from integration.api_server import CORE, ApiServer
from integration.conftest import Operator, make_operator
from integration.kubeflow import WEBHOOKS, running_kubeflow

OTHERS = {
    "raised": ["--controller-threads=10", "--kube-api-qps=500", "--kube-api-burst=1000"],
    "default": [],
}
"""Flags of Kubeflow's operator."""
LATE_JOBS = 200
WARM_UP = 10
REQUESTS = "trainyard_api_requests_total"
SETTLE_SECONDS = 70.0
"""A thousand jobs are asked once in 50 s."""


def main() -> None:
    """Prints a line a round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--others", default="raised")
    parser.add_argument("--latency", action="store_true", help="a job that comes while others run")
    arguments = parser.parse_args()
    with fake_cluster() as (api, folder):
        if arguments.latency:
            show_latency(api, folder, arguments.jobs)
            return
        others = [name for name in arguments.others.split(",") if name]
        found: dict[str, list[Round]] = {name: [] for name in ["ours", *others]}
        for name in found:  # What is done for the first time takes longer.
            measure(api, folder, name, WARM_UP, WARM_UP)
        for number in range(arguments.rounds):
            turn = list(found) if number % 2 == 0 else list(reversed(found))
            for name in turn:
                found[name].append(measure(api, folder, name, number, arguments.jobs))
                print(name, arguments.jobs, found[name][-1], flush=True)
        for name in others:
            pairs = zip(found["ours"], found[name], strict=True)
            ratio = median(a.seconds / b.seconds for a, b in pairs)
            print(f"ours / {name}: {ratio:.3f}", flush=True)


def measure(api: ApiServer, folder: Path, name: str, number: int, jobs: int) -> Round:
    """One round of one operator, which is started for it."""
    namespace = f"{name}-{jobs}-jobs-{number}"
    if name == "ours":
        with running_ours(api, folder) as operator:
            assert operator.daemon is not None
            return run_round(api, OURS, namespace, jobs, operator.daemon.process.pid)
    with running_kubeflow(api, folder, OTHERS[name]) as daemon:
        # It cannot be asked here, and each job would wait for the answer that does not come.
        api.send("DELETE", WEBHOOKS)
        return run_round(api, THEIRS, namespace, jobs, daemon.process.pid)


def show_latency(api: ApiServer, folder: Path, running: int) -> None:
    """From apply to both pods of jobs that come one by one while so many run."""
    with running_ours(api, folder) as operator:
        api.must("POST", f"{CORE}/namespaces", {"metadata": {"name": "standing"}})
        time.sleep(2)
        with Watch(api, STANDING.path("standing"), is_running, running) as watch:
            create_jobs(api, STANDING, "standing", running)
            watch.wait()
        seconds = [apply_one(api, number) for number in range(LATE_JOBS)]
        print(
            f"{running} run; apply to both pods: median {median(seconds) * 1000:.0f} ms, "
            f"99th percentile {quantile(seconds, 0.99) * 1000:.0f} ms, worst "
            f"{max(seconds) * 1000:.0f} ms",
            flush=True,
        )
        show_status_cost(operator)


def show_status_cost(operator: Operator) -> None:
    """Writes for progress while all jobs report a new step each time, and while none does."""
    training = Training()
    with reporting(training):
        time.sleep(SETTLE_SECONDS)
        moving = writes_a_second(lambda: operator.metric(REQUESTS, verb="PATCH"))
        training.moves = False
        time.sleep(SETTLE_SECONDS)  # Each job is asked once more for what it last did.
        standing = writes_a_second(lambda: operator.metric(REQUESTS, verb="PATCH"))
    assert operator.daemon is not None
    print(
        f"writes a second: {moving:.1f} while all report, {standing:.1f} while all stand; "
        f"peak {peak_mb(operator.daemon.process.pid):.0f} MB",
        flush=True,
    )


def apply_one(api: ApiServer, number: int) -> float:
    """Seconds from the request to the second pod."""
    names = {f"late-{number}-{role}-0" for role in ("master", "worker")}
    pods = f"{CORE}/namespaces/standing/pods"
    with Watch(api, pods, lambda pod: _named(pod, names), 2) as watch:
        began = time.perf_counter()
        api.must("POST", STANDING.path("standing"), STANDING.build(f"late-{number}"))
        return watch.wait() - began


def _named(pod: dict[str, object], names: set[str]) -> bool:
    return pod["metadata"]["name"] in names  # type: ignore[index]


def is_running(job: dict[str, object]) -> bool:
    status = job.get("status") or {}
    return status.get("phase") == "Running"  # type: ignore[attr-defined,no-any-return]


@contextmanager
def running_ours(api: ApiServer, folder: Path) -> Iterator[Operator]:
    """A process with no setting changed, ready."""
    operator = make_operator(api.plane.kubeconfig("admin"), folder)
    operator.start()
    try:
        yield operator
    finally:
        operator.kill()


if __name__ == "__main__":
    main()
