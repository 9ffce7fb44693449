"""`trainyard suspend` of a sweep saves its trials' progress; resume goes on from there."""

import time
from typing import Any

import pytest
from e2e.kube import Namespace
from e2e.sweep_runs import SweepRun
from e2e.test_sweep import make_sweep
from patience import HANG_SECONDS

pytestmark = pytest.mark.slow
NAME = "paused"


def wait_for(run: SweepRun, phase: str) -> dict[str, Any]:
    """The sweep's status, once it is in a phase."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        if (status := run.status()).get("phase") == phase:
            return status
        time.sleep(1)
    raise AssertionError(f"not {phase}\n{run.namespace.explain(f'{NAME}-0')}")


def test_suspended_sweep_saves_its_trials_begins_none_and_goes_on(
    namespace: Namespace, make_job: Any, cluster: Any
) -> None:
    sweep = make_sweep(make_job(NAME))
    sweep["metadata"]["name"], sweep["spec"]["folds"] = NAME, 3
    job = sweep["spec"]["template"]["spec"]
    job["checkpoint"] = {"everySteps": 100_000}
    job["config"]["training"]["epochs"] = 60
    namespace.apply(sweep)
    run = SweepRun(namespace, NAME, cluster.s3_endpoint)
    wait_for(run, "Running")
    started = (f"{NAME}-0", f"{NAME}-1")
    for name in started:
        is_under_way = lambda s: (s.get("progress") or {}).get("step", 0) > 0  # noqa: E731
        namespace.wait_until(name, is_under_way, "under way")
    namespace.trainyard("suspend", f"sweep/{NAME}")
    wait_for(run, "Suspended")
    saved = {}
    for name in started:
        status = namespace.wait_for_phase(name, "Suspended")
        saved[name] = status["checkpoints"]["latest"]["step"]
        assert saved[name] > 0
    assert set(run.trials()) == set(started)
    namespace.trainyard("resume", f"sweep/{NAME}")
    status = wait_for(run, "Succeeded")
    assert status["counts"]["succeeded"] == 3
    for name, trial in run.trials().items():
        progress = trial["status"]["progress"]
        assert progress.get("resumedStep", 0) == saved.get(name, 0)
