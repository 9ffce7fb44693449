"""`trainyard run` of a TrainingSweep: the operator's own plan, and a LocalRunner for each trial.

    trials = their job.json        decision = plan_sweep(sweep, status, trials, now)
    sweep.json <- its status       start, stop and resume trials <- its actions

Ctrl-C suspends the sweep: trials save a checkpoint, and the next run goes on with them. Each trial
is a local job of its own, which `trainyard get`, `logs` and `fetch` know.
"""

import concurrent.futures.thread  # noqa: F401  registers hooks of fork: not while a trial forks
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from trainyard.errors import as_client_error
from trainyard.jobs import Job
from trainyard.local.runner import LocalRunner, StopRequest, held
from trainyard.locate import of_job
from trainyard.quantities import utc_now
from trainyard.state import LocalJob, local_jobs, new_local_job
from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import now_text
from trainyard_operator.decision import Create
from trainyard_operator.defaults import Defaults
from trainyard_operator.sweep.api import SweepSpec, TrainingSweep
from trainyard_operator.sweep.decision import HoldTrial, ReleaseTrial, SweepDecision
from trainyard_operator.sweep.desired import setting_text
from trainyard_operator.sweep.handover import build_table
from trainyard_operator.sweep.names import (
    HELD_ANNOTATION,
    HELD_REASON_ANNOTATION,
    SWEEP_UID_LABEL,
)
from trainyard_operator.sweep.plan import plan_sweep
from trainyard_operator.sweep.record import TrialRecord, trial_record
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.status import SWEEP_ENDS, SweepStatus, parse_sweep_status
from trainyard_operator.sweep.table import SweepTable
from trainyard_operator.wording import figure

TICK_SECONDS = 0.2
CURVE_SECONDS = 1.0
"""Between two looks at a trial's metrics, which early stopping reads."""


@dataclass
class LocalTrial:
    """One trial: its job on disk, and the thread that runs it."""

    local: LocalJob
    stop: StopRequest = field(default_factory=StopRequest)
    thread: threading.Thread | None = None
    error: str = ""
    """Why its runner itself failed."""
    held_by: str = ""
    because: str = ""
    curve: tuple[tuple[int, float], ...] = ()
    curve_at: float = 0.0
    is_curve_whole: bool = False
    """Whether it was read since its runner ended."""
    final: TrialRecord | None = None
    """Once it has ended: read no more."""

    @property
    def is_alive(self) -> bool:
        """Whether its runner is at work."""
        return self.thread is not None and self.thread.is_alive()

    def start(self, changes: Mapping[str, Any] | None = None) -> None:
        """Begin, or go on from the last checkpoint with changes of the spec."""
        self.stop, self.held_by, self.because = StopRequest(), "", ""
        self.is_curve_whole = False
        if changes:
            stored = self.local.object
            self.local.save({**stored, "spec": _changed(stored["spec"], changes)})
        self.thread = threading.Thread(target=self._run, name=self.local.directory.parent.name)
        self.thread.start()

    def hold(self, held_by: str, because: str) -> None:
        """Have it save a checkpoint and end."""
        self.held_by, self.because = held_by, because
        self.stop.count = max(self.stop.count, 1)

    def record(self) -> TrialRecord | None:
        """As the planner sees it."""
        is_alive = self.is_alive
        found = self.final or self._read()
        if found and found.has_ended and not is_alive:
            self.final = found
        return found

    def _read(self) -> TrialRecord | None:
        raw = self.local.object
        if not raw:
            return None
        if self.held_by:
            notes = {HELD_ANNOTATION: self.held_by, HELD_REASON_ANNOTATION: self.because}
            raw["metadata"]["annotations"] = {**(raw["metadata"].get("annotations") or {}), **notes}
            raw["spec"]["runPolicy"] = {**(raw["spec"].get("runPolicy") or {}), "suspend": True}
        found = trial_record(raw)
        if found is None or found.has_ended or not self.error:
            return self._seen(found) if found else None
        return replace(found, phase="Failed", message=self.error)

    def _seen(self, found: TrialRecord) -> TrialRecord:
        """With the longer of two curves; one whose runner has not ended yet is not at rest."""
        curve = max(self.curve, found.curve, key=lambda points: points[-1:])
        is_ending = self.is_alive and found.phase == "Suspended"
        return replace(found, curve=curve, phase="Running" if is_ending else found.phase)

    def _run(self) -> None:
        stored = self.local.object
        job = TrainingJob.model_validate({key: stored[key] for key in stored if key != "status"})
        try:
            LocalRunner(self.local, job, self.stop).run(lambda _: None)
        except Exception as error:
            known = as_client_error(error)
            self.error = known.message if known else repr(error)

    def read_curve(self, metric: str) -> None:
        """From the metrics in storage, once in a while."""
        now = time.monotonic()
        is_alive = self.is_alive
        if self.is_curve_whole or (is_alive and now < self.curve_at):
            return
        from trainyard_trainer.metrics_table import read_metrics

        self.curve_at, self.is_curve_whole = now + CURVE_SECONDS, not is_alive
        rows = read_metrics(of_job(Job(self.local.object, local=self.local)).storage)
        self.curve = rows.curve(metric) if rows else ()


def trial_line(record: TrialRecord, spec: SweepSpec) -> str:
    """`tiny-2 (lr=0.3): Succeeded, val_loss 0.01`."""
    words = [] if record.name == record.job else [record.name]
    if spec.method != "list":
        words += [f"{key}={setting_text(value)}" for key, value in record.overrides.items()]
    named = f" ({', '.join(words)})" if words else ""
    value = record.value(spec) if record.state != "Running" else None
    result = "" if value is None else f", {spec.objective.metric} {figure(value)}"
    return f"{record.job}{named}: {record.shown}{result}"


class LocalSweep:
    """Runs one sweep; `tell` is given a line for each thing that happens."""

    def __init__(
        self,
        local: LocalJob,
        sweep: TrainingSweep,
        stop: StopRequest,
        tell: Callable[[str], None],
    ) -> None:
        self._local, self._sweep, self._stop, self._tell = local, sweep, stop, tell
        self._status = parse_sweep_status(local.object.get("status"))
        self._defaults = Defaults(has_one_node=True)
        self._trials: dict[str, LocalTrial] = {}
        self._told: dict[str, str] = {}
        self._reported = -1

    def run(self) -> tuple[SweepStatus, SweepTable]:
        """Go on until the sweep has ended, or is suspended by `stop`."""
        with held(self._local):
            self._take_up()
            try:
                while not self._is_over(self._look()):
                    time.sleep(TICK_SECONDS)
            finally:
                self._end_all()
            table = self._report(is_final=self._status.phase in SWEEP_ENDS)
            self._save()
            return self._status, table

    def _take_up(self) -> None:
        """Trials of an earlier run; those that it left running go on."""
        stored = self._local.object.get("held") or {}
        for local in local_jobs():
            metadata = local.object["metadata"]
            if (metadata.get("labels") or {}).get(SWEEP_UID_LABEL) != self._sweep.metadata.uid:
                continue
            trial = self._trials[metadata["name"]] = LocalTrial(local)
            trial.held_by, trial.because = stored.get(metadata["name"], ("", ""))
            record = trial.record()
            if record and not record.has_ended and not trial.held_by:
                trial.start()

    def _look(self) -> SweepDecision:
        """One decision, carried out."""
        if self._stop.count > 1:
            for trial in self._trials.values():
                trial.stop.count = max(trial.stop.count, 2)
        scene = self._scene()
        self._tell_trials(scene.records)
        decision = plan_sweep(scene)
        self._status = decision.status
        for action in decision.actions:
            if isinstance(action, Create):
                self._create(action.manifest)
            elif isinstance(action, HoldTrial):
                self._trials[action.job].hold(action.held_by, action.because)
            elif isinstance(action, ReleaseTrial):
                self._trials[action.job].start(action.changes)
        self._save()
        for event in decision.events:
            self._tell(event.message)
        if self._count_ended() > self._reported:
            self._report(is_final=False)
        return decision

    def _scene(self) -> SweepScene:
        sweep = self._sweep
        if sweep.spec.early_stopping:
            for trial in self._trials.values():
                trial.read_curve(sweep.spec.objective.metric)
        if self._stop.count:
            policy = sweep.spec.run_policy.model_copy(update={"suspend": True})
            spec = sweep.spec.model_copy(update={"run_policy": policy})
            sweep = sweep.model_copy(update={"spec": spec})
        return SweepScene(
            sweep=sweep,
            status=self._status,
            records=self._records(),
            now=utc_now(),
            defaults=self._defaults,
            reports_by_job=False,
            resume_by="run it again",
        )

    def _records(self) -> tuple[TrialRecord, ...]:
        found = (trial.record() for trial in self._trials.values())
        return tuple(record for record in found if record)

    def _create(self, manifest: dict[str, Any]) -> None:
        metadata, uid = manifest["metadata"], str(uuid4())
        local = new_local_job(metadata["name"], uid)
        own = {"uid": uid, "generation": 1, "creationTimestamp": now_text(utc_now())}
        local.save({**manifest, "metadata": {**metadata, **own}, "status": {}})
        trial = self._trials[metadata["name"]] = LocalTrial(local)
        trial.start()

    def _save(self) -> None:
        kept = {
            name: (trial.held_by, trial.because)
            for name, trial in self._trials.items()
            if trial.held_by
        }
        stored = {**self._local.object, "status": self._status.to_dict(), "held": kept}
        if stored != self._local.object:
            self._local.save(stored)

    def _is_over(self, decision: SweepDecision) -> bool:
        if decision.actions or any(trial.is_alive for trial in self._trials.values()):
            return False
        return self._stop.count > 0 or self._status.phase in {*SWEEP_ENDS, "Pending"}

    def _count_ended(self) -> int:
        return sum(record.state != "Running" for record in self._records())

    def _tell_trials(self, records: Iterable[TrialRecord]) -> None:
        """A line for each trial that began, was suspended, or ended."""
        for record in sorted(records, key=lambda record: record.number):
            if record.shown != "Pending" and self._told.get(record.job) != record.shown:
                self._told[record.job] = record.shown
                self._tell(trial_line(record, self._sweep.spec))

    def _report(self, *, is_final: bool) -> SweepTable:
        """Write it beside the trials, where there is storage."""
        table = build_table(self._sweep, self._records(), is_final=is_final)
        self._reported = self._count_ended()
        storage = self._sweep.spec.template.spec.storage
        if storage is None or not table.trials:
            return table
        from trainyard.locate import open_location
        from trainyard_operator.sweep.desired import report_uri, sweep_uri
        from trainyard_trainer.sweep_report import write_report

        where = storage.to_dict() | {"uri": sweep_uri(self._sweep, self._defaults)}
        written = write_report(open_location(where), table)
        uri = report_uri(self._sweep, self._defaults)
        self._status = self._status.model_copy(update={"report_uri": uri})
        return written

    def _end_all(self) -> None:
        """Nothing outlives the runner: a second stop ends trials at once."""
        for trial in self._trials.values():
            if trial.is_alive:
                trial.stop.count = 2
        for trial in self._trials.values():
            if trial.thread:
                trial.thread.join()


def _changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A job's spec with some fields of its parts changed."""
    return {**spec, **{part: {**(spec.get(part) or {}), **new} for part, new in changes.items()}}
