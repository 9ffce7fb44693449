"""A sweep of the cluster, or of `trainyard run` on this machine; commands know it as sweep/NAME."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from trainyard.errors import (
    ClientError,
    JobFailed,
    JobStopped,
    NotFound,
    Rejected,
    UsageError,
    WaitTimeout,
)
from trainyard.jobs import Job, find_job, forget, meant_sweep, own_cluster
from trainyard.options import Settings
from trainyard.resource import Resource
from trainyard.state import LocalJob, local_jobs, local_sweeps, newest_local_sweep
from trainyard.story import run_target
from trainyard_operator.sweep.desired import setting_text
from trainyard_operator.sweep.names import SWEEP_UID_LABEL, sweep_prefix, trial_name
from trainyard_operator.sweep.status import SWEEP_ENDS, SweepStatus, parse_sweep_status
from trainyard_operator.sweep.table import REPORT_PREFIX, TRIALS_PREFIX
from trainyard_operator.wording import figure

if TYPE_CHECKING:
    from trainyard.cluster import Cluster

POLL_SECONDS = 2.0
TRIALS_NAMED = 8
"""Trials that a message lists."""
LIST_COLUMNS = ("NAME", "PHASE", "METHOD", "TRIALS", "BEST", "MEAN")
TRIAL_COLUMNS = ("TRIAL", "JOB", "PHASE", "VALUE", "SETTING")


@dataclass(frozen=True)
class Sweep(Resource):
    """A TrainingSweep."""

    @property
    def ref(self) -> str:
        """What a command takes."""
        return f"sweep/{self.name}"

    @property
    def storage(self) -> dict[str, Any]:
        """Of its template; empty where the operator's default is used."""
        return dict(self.spec["template"]["spec"].get("storage") or {})

    @property
    def uri(self) -> str | None:
        """Everything of it lies below; None where nobody knows yet."""
        if base := self.storage.get("uri"):
            return f"{base.rstrip('/')}/{sweep_prefix(self.namespace, self.name, self.uid)}"
        return (self.status.report_uri or "").removesuffix(f"/{REPORT_PREFIX}") or None

    @cached_property
    def status(self) -> SweepStatus:
        """The typed status."""
        return parse_sweep_status(self.object.get("status"))

    @property
    def phase(self) -> str:
        """Pending before anybody looked at it."""
        return self.status.phase or "Pending"

    @property
    def is_finished(self) -> bool:
        """Whether it succeeded or failed."""
        return self.status.phase in SWEEP_ENDS

    def row(self) -> list[str]:
        """LIST_COLUMNS."""
        shown, method = self.status.display, self.spec["method"]
        phase = "Abandoned" if self.is_abandoned else self.phase
        return [self.name, phase, method, shown.trials, shown.best, shown.summary]

    def trial_rows(self) -> list[list[str]]:
        """TRIAL_COLUMNS, of the trials that the status shows."""
        return [
            [
                "" if trial.name == trial.job else trial.name,
                trial.job,
                trial.phase,
                "" if trial.value is None else figure(trial.value),
                " ".join(f"{k}={setting_text(v)}" for k, v in (trial.overrides or {}).items()),
            ]
            for trial in self.status.trials
        ]

    def refusal(self) -> str:
        """Why no trial begins until the spec is edited; empty if they may."""
        accepted = self.status.condition("Accepted")
        return accepted.message if accepted and accepted.status == "False" else ""

    def message(self) -> str:
        """Why it is in its phase."""
        found = self.status.condition(self.phase)
        return self.refusal() or (found.message if found else "")

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

    def ranked(self) -> dict[str, dict[str, float]]:
        """The objective by its name, by the job of each trial that has one."""
        metric = (self.spec.get("objective") or {}).get("metric") or ""
        values = {trial.job: trial.value for trial in self.status.trials}
        return {job: {metric: value} for job, value in values.items() if value is not None}

    def best_words(self) -> str:
        """`digits-3, val_accuracy 0.981`. Raises NotFound."""
        job = self.best_job()
        return ", ".join(
            [job, *(f"{k} {figure(v)}" for k, v in self.ranked().get(job, {}).items())]
        )

    def suspend(self, wanted: bool) -> None:
        """Of a cluster's sweep: set spec.runPolicy.suspend."""
        if self.cluster:
            self.cluster.patch_sweep(self.name, {"spec": {"runPolicy": {"suspend": wanted}}})

    def delete(self) -> None:
        """Delete it with its trials; on this machine, forget them. What they stored stays."""
        if self.cluster:
            self.cluster.delete_sweep(self.name)
        for local in self._local_trials():
            forget(local)
        if self.local:
            self.local.remove()

    def stored_as(self) -> tuple[str, dict[str, Any]]:
        """By what name, and where, the best trial's results are found once it is gone."""
        best = self.status.best.job if self.status.best else trial_name(self.name, 0)
        return best, {**self.storage, "uri": f"{self.uri}/{TRIALS_PREFIX}"} if self.uri else {}

    def local_phases(self) -> dict[str, str]:
        """Of this machine: the phase of each trial's job, by its name; empty of one that lost its
        runner, which goes on with the sweep."""
        jobs = [Job(local.object, local=local) for local in self._local_trials()]
        return {job.name: "" if job.is_abandoned else job.phase for job in jobs}

    def _local_trials(self) -> list[LocalJob]:
        found = list(local_jobs()) if self.local else []
        labels = [local.object["metadata"].get("labels") or {} for local in found]
        pairs = zip(found, labels, strict=True)
        return [local for local, own in pairs if own.get(SWEEP_UID_LABEL) == self.uid]

    def _read(self, cluster: "Cluster") -> dict[str, Any]:
        return cluster.get_sweep(self.name)

    def _gone(self) -> NotFound:
        return NotFound(f"sweep '{self.name}' was deleted", "trainyard get sweeps")


def find_sweep(settings: Settings, name: str) -> Sweep:
    """A sweep of this machine, else of the cluster; see `find_job`.

    Raises NotFound, Unreachable.
    """
    if not settings.names_cluster and (local := newest_local_sweep(name)):
        return Sweep(local.object, local=local)
    from trainyard.cluster import is_configured

    if not is_configured(settings.context):
        from trainyard.findings import near

        match = near(name, [local.directory.parent.name for local in local_sweeps()])
        raise NotFound(
            f"there is no sweep '{name}' on this machine, and no cluster is configured"
            + (f"; did you mean 'sweep/{match}'?" if match else ""),
            "trainyard get sweeps",
        )
    cluster = own_cluster(settings)
    return Sweep(cluster.get_sweep(name), cluster)


def find_job_or_sweep(settings: Settings, name: str) -> Job | Sweep:
    """What a person means by a name. Raises NotFound, Unreachable."""
    where, sweep = meant_sweep(settings, name)
    return find_sweep(where, sweep) if sweep else find_job(settings, name)


def earlier_runs(job: Job | Sweep) -> list[Job | Sweep]:
    """Those of the same name on this machine, which would be found once it is gone."""
    if job.local is None:
        return []
    kept = local_jobs if isinstance(job, Job) else local_sweeps
    others = [local for local in kept(job.name) if local.directory != job.local.directory]
    return [replace(job, object=local.object, local=local) for local in others]


def many_jobs(settings: Settings, name: str) -> UsageError:
    """What is said where a command takes one job and got a sweep: which of its trials there are.

    Raises NotFound where there is no such sweep.
    """
    sentence = f"sweep '{name}' is many jobs, and this command takes one"
    try:
        trials = find_sweep(settings, name).status.trials
    except NotFound:
        raise
    except ClientError:
        trials = []
    if not trials:
        return UsageError(f"{sentence} of its trials", f"trainyard get sweep/{name}")
    named = ", ".join(trial.job for trial in trials[:TRIALS_NAMED])
    rest = f" and {len(trials) - TRIALS_NAMED} more" if len(trials) > TRIALS_NAMED else ""
    failed = [trial.job for trial in trials if trial.phase == "Failed"]
    context = click.get_current_context(silent=True)
    verb = context.info_name if context else "get"
    help_ = f"trainyard {verb} {failed[0] if failed else trials[-1].job}"
    return UsageError(f"{sentence} of its trials: {named}{rest}", help_)


def list_sweeps(settings: Settings, *, everywhere: bool) -> list[Sweep]:
    """Of this machine, unless a cluster is named, and of the cluster's namespace, or of all."""
    from trainyard.cluster import is_configured

    only_cluster = settings.names_cluster or everywhere
    found: dict[str, Sweep] = {}
    for local in () if only_cluster else local_sweeps():
        sweep = Sweep(local.object, local=local)
        found.setdefault(sweep.name, sweep)
    if not only_cluster and not is_configured():
        return list(found.values())
    cluster = own_cluster(settings)
    there = cluster.list_sweeps(everywhere=everywhere)
    return [*found.values(), *(Sweep(item, cluster) for item in there)]


def follow(sweep: Sweep, show: Callable[[Sweep], None], timeout: float | None) -> Sweep:
    """To its end. Raises JobFailed, JobStopped, Rejected, WaitTimeout."""
    last = sweep
    for last in _versions(sweep, timeout):
        show(last)
        if last.is_finished or last.is_abandoned or last.phase == "Suspended":
            break
        if last.phase == "Pending" and last.refusal():
            raise Rejected(last.refusal(), f"kubectl edit tsw {last.name}")
    if last.phase == "Failed":
        raise JobFailed(f"{last.name} failed: {last.message()}", f"trainyard get {last.ref}")
    if not last.is_finished:
        why = "is suspended" if last.phase == "Suspended" else "has lost its runner"
        raise JobStopped(f"{last.name} {why}", resume_command(last))
    return last


def resume_command(sweep: Sweep) -> str:
    """What lets it go on."""
    is_local = sweep.local is not None
    return f"trainyard run {run_target(sweep)}" if is_local else f"trainyard resume {sweep.ref}"


def following_command(sweep: Sweep) -> str:
    """What a person most likely wants to type next, having looked at it wherever it stands."""
    if sweep.is_finished:
        failed = [trial.job for trial in sweep.status.trials if trial.phase == "Failed"]
        has_best = sweep.status.best is not None
        return next_command(sweep) if has_best or not failed else f"trainyard logs {failed[0]}"
    if sweep.is_abandoned or sweep.phase == "Suspended":
        return resume_command(sweep)
    return f"trainyard watch {sweep.ref}"


def next_command(sweep: Sweep) -> str:
    """What a person most likely wants to type once it has ended."""
    best = sweep.status.best
    if best and (best.checkpoint or sweep.spec["template"]["spec"].get("recipe")):
        return f"trainyard fetch {sweep.ref}"
    if sweep.status.report_uri:
        return f"trainyard fetch {sweep.ref} --what report"
    return f"trainyard get {sweep.ref}"


def _versions(sweep: Sweep, timeout: float | None) -> Iterator[Sweep]:
    began = time.monotonic()
    yield sweep
    while timeout is None or time.monotonic() - began < timeout:
        time.sleep(POLL_SECONDS)
        try:
            yield sweep.refreshed()
        except NotFound:
            raise JobStopped(f"{sweep.name} was deleted", "trainyard get sweeps") from None
    raise WaitTimeout(f"{sweep.name} is still {sweep.phase}", f"trainyard watch {sweep.ref}")
