"""A sweep of the cluster, which commands know as `sweep/NAME`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trainyard.errors import JobFailed, JobStopped, NotFound, WaitTimeout
from trainyard.options import Settings
from trainyard_operator.sweep.desired import setting_text
from trainyard_operator.sweep.status import SWEEP_ENDS, SweepStatus, parse_sweep_status

if TYPE_CHECKING:
    from trainyard.cluster import Cluster

POLL_SECONDS = 2.0
LIST_COLUMNS = ("NAME", "PHASE", "METHOD", "TRIALS", "BEST", "MEAN")
TRIAL_COLUMNS = ("TRIAL", "JOB", "PHASE", "VALUE", "SETTING")


@dataclass(frozen=True)
class Sweep:
    """A TrainingSweep as it was read a moment ago."""

    object: dict[str, Any]
    cluster: "Cluster"

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.object["metadata"]["name"])

    @property
    def ref(self) -> str:
        """What a command takes."""
        return f"sweep/{self.name}"

    @cached_property
    def status(self) -> SweepStatus:
        """The typed status."""
        return parse_sweep_status(self.object.get("status"))

    @property
    def phase(self) -> str:
        """Pending before anybody looked at it."""
        return self.status.phase or "Pending"

    def row(self) -> list[str]:
        """LIST_COLUMNS."""
        shown, method = self.status.display, self.object["spec"]["method"]
        return [self.name, self.phase, method, shown.trials, shown.best, shown.summary]

    def trial_rows(self) -> list[list[str]]:
        """TRIAL_COLUMNS, of the trials that the status shows."""
        return [
            [
                trial.name,
                trial.job,
                trial.phase,
                "" if trial.value is None else f"{trial.value:.6g}",
                " ".join(f"{k}={setting_text(v)}" for k, v in (trial.overrides or {}).items()),
            ]
            for trial in self.status.trials
        ]

    def message(self) -> str:
        """Why it is in its phase."""
        refused = self.status.condition("Accepted")
        if refused and refused.status == "False":
            return refused.message
        found = self.status.condition(self.phase)
        return found.message if found else ""

    def best_job(self) -> str:
        """The trial that did best. Raises NotFound."""
        if self.status.best is None:
            raise NotFound(f"no trial of {self.name} has a result yet", f"trainyard get {self.ref}")
        return self.status.best.job

    def trials_done(self) -> list[str]:
        """Jobs of the trials that succeeded. Raises NotFound."""
        done = [trial.job for trial in self.status.trials if trial.phase == "Succeeded"]
        if not done:
            raise NotFound(f"no trial of {self.name} has succeeded", f"trainyard get {self.ref}")
        return done


def find_sweep(settings: Settings, name: str) -> Sweep:
    """Raises NotFound, Unreachable."""
    from trainyard.jobs import own_cluster

    cluster = own_cluster(settings)
    return Sweep(cluster.get_sweep(name), cluster)


def list_sweeps(settings: Settings, *, everywhere: bool) -> list[Sweep]:
    """Of the namespace, or of all."""
    from trainyard.jobs import own_cluster

    cluster = own_cluster(settings)
    return [Sweep(item, cluster) for item in cluster.list_sweeps(everywhere=everywhere)]


def follow(sweep: Sweep, show: Callable[[Sweep], None], timeout: float | None) -> Sweep:
    """To its end. Raises JobFailed, JobStopped, WaitTimeout."""
    last = sweep
    for last in _versions(sweep, timeout):
        show(last)
        if last.phase in {*SWEEP_ENDS, "Suspended"}:
            break
    if last.phase == "Failed":
        raise JobFailed(f"{last.name} failed: {last.message()}", f"trainyard get {last.ref}")
    if last.phase == "Suspended":
        raise JobStopped(f"{last.name} is suspended", f"kubectl edit tsw {last.name}")
    return last


def _versions(sweep: Sweep, timeout: float | None) -> Iterator[Sweep]:
    began, uid = time.monotonic(), sweep.object["metadata"]["uid"]
    yield sweep
    while timeout is None or time.monotonic() - began < timeout:
        time.sleep(POLL_SECONDS)
        try:
            found = sweep.cluster.get_sweep(sweep.name)
        except NotFound:
            found = {"metadata": {}}
        if found["metadata"].get("uid") != uid:
            raise JobStopped(f"{sweep.name} was deleted", "trainyard get sweeps")
        yield Sweep(found, sweep.cluster)
    raise WaitTimeout(f"{sweep.name} is still {sweep.phase}", f"trainyard watch {sweep.ref}")
