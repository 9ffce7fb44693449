"""`trainyard run`: observe processes, plan, keep the status, act; until the job is at its end.

    observed = processes as PodRecords        decision = plan(job, status, observed, now)
    job.json <- decision.status               start and stop processes <- decision.actions

A stop is what a suspension is in a cluster: the planner deletes the gang, ranks save a checkpoint,
and the next run resumes from it as the same job.
"""

import contextlib
import dataclasses
import os
import secrets
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from trainyard.errors import ClientError
from trainyard.jobs import Job
from trainyard.local.environment import Gang, build_launch, free_ports, new_gang
from trainyard.local.node_memory import remove_node_memory, sweep_node_memory
from trainyard.local.processes import ProcessPod, end_leftovers, start_process
from trainyard.quantities import utc_now
from trainyard.state import SWEEPS, LocalJob, state_directory, try_lock
from trainyard.trials import sweep_of
from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import REPORT_FILE, Report, now_text
from trainyard_operator.decision import Action, Create, Decision, DeletePod, OrderAttempt
from trainyard_operator.desired import Defaults
from trainyard_operator.observed import Observed
from trainyard_operator.pause import paused_at
from trainyard_operator.plan import plan
from trainyard_operator.status import (
    FINISHED,
    HISTORY_LENGTH,
    HistoryEntry,
    JobStatus,
    parse_status,
)
from trainyard_operator.story import Line

TICK_SECONDS = 0.1
REPORT_SECONDS = 0.5


@dataclass
class StopRequest:
    """Set by signals: the first asks for a checkpoint, the second ends everything at once."""

    count: int = 0

    def __call__(self, number: int, frame: object) -> None:
        """A signal handler."""
        self.count += 1


class LocalRunner:
    """Runs one job; the caller's thread is the one whose death ends the processes."""

    def __init__(self, local: LocalJob, job: TrainingJob, stop: StopRequest) -> None:
        self._local, self._job, self._stop = local, without_server(job), stop
        self._object = local.object
        self._status = parse_status(self._object.get("status"))
        self._pods: list[ProcessPod] = []
        self._ended: set[str] = set()
        """Deleted pods whose end the planner has seen."""
        self._gangs: dict[int, Gang] = {}
        self._master_ports: dict[int, int] = {}
        """Of attempts in place: an order that is given again has to be the same."""
        self._defaults = Defaults(secret=secrets.token_hex(), has_one_node=True)
        self._report: Report | None = None
        self._report_at = 0.0

    @property
    def status(self) -> JobStatus:
        """What the planner last said."""
        return self._status

    def run(self, show: Callable[[Job], None]) -> Job:
        """Go on until the job is finished or stopped; `show` is called a few times a second."""
        with held(self._local):
            end_leftovers(self._local.directory)
            sweep_node_memory()
            self._take_up()
            try:
                while not self._is_over():
                    self._pass()
                    show(self._as_job())
                    self._listen()
                return self._as_job()
            finally:
                self._end_all()

    def _pass(self) -> None:
        """One look at the job."""
        now = utc_now()
        if self._stop.count > 1:
            for pod in self._pods:
                pod.kill()
        decision = self._decide(now)
        if decision.status != self._status:
            self._status = decision.status
            self._save()
        for action in decision.actions:
            self._execute(action, now)

    def _decide(self, now: datetime) -> Decision:
        for pod in self._pods:
            pod.poll(now)
        job = self._job
        if self._stop.count:
            policy = job.spec.run_policy.model_copy(update={"suspend": True})
            spec = job.spec.model_copy(update={"run_policy": policy})
            job = job.model_copy(update={"spec": spec})
        observed = Observed(
            pods=tuple(pod.record() for pod in self._pods), report=self._read_report()
        )
        decision = plan(job, self._status, observed, now, self._defaults)
        if self._stop.count:
            status = _in_local_words(decision.status, self._as_job())
            decision = dataclasses.replace(decision, status=status)
        # A deleted pod is seen once with its last words, and is gone at the next look.
        self._pods = [pod for pod in self._pods if pod.is_alive or pod.deadline is None]
        return decision

    def _execute(self, action: Action, now: datetime) -> None:
        if isinstance(action, Create) and action.manifest["kind"] == "Pod":
            gang = self._gang(self._status.attempt)
            launch = build_launch(action.manifest, gang)
            self._pods.append(start_process(action.manifest, launch, now))
        elif isinstance(action, DeletePod):
            for pod in self._pods:
                if pod.uid == action.uid:
                    pod.stop(now, action.grace_seconds)
        elif isinstance(action, OrderAttempt):
            self._order(action)

    def _order(self, action: OrderAttempt) -> None:
        attempt = action.order.attempt
        if attempt not in self._master_ports:
            [self._master_ports[attempt]] = free_ports(1)
        order = dataclasses.replace(action.order, master_port=self._master_ports[attempt])
        for pod in self._pods:
            if pod.uid == action.uid:
                pod.order(order)

    def _listen(self) -> None:
        """Until a launcher says that its ranks have failed, but not for long."""
        pods = [pod for pod in self._pods if pod.listen()]
        ready, _, _ = select.select(pods, [], [], TICK_SECONDS)
        for pod in ready:
            pod.hear(utc_now())

    def _gang(self, attempt: int) -> Gang:
        if attempt not in self._gangs:
            self._gangs[attempt] = new_gang(
                self._local.attempt_directory(attempt),
                state_directory() / "datasets",
                self._job.spec.nodes,
                self._job.spec.nodes * self._job.spec.ranks_per_node,
            )
        return self._gangs[attempt]

    def _read_report(self) -> Report | None:
        """Rank 0's newest report, from the file that it keeps; of an attempt that has ended, the
        last one."""
        now = time.monotonic()
        first = next((pod for pod in self._pods if pod.node_index == 0), None)
        if first is None or (first.is_alive and now < self._report_at):
            return self._report
        self._report_at = now + REPORT_SECONDS
        with contextlib.suppress(OSError, ValueError):
            self._report = Report.from_json((first.directory / REPORT_FILE).read_bytes())
        return self._report

    def _is_over(self) -> bool:
        if self._pods and any(pod.is_alive for pod in self._pods):
            return False
        is_held = self._stop.count > 0 or paused_at(self._job, self._status) is not None
        is_stopped = is_held and self._status.phase == "Suspended"
        return (is_stopped and not self._pods) or self._status.phase in FINISHED

    def _take_up(self) -> None:
        """Go on where a runner that is gone left off: its attempt is over."""
        status = self._status
        if status.attempt and status.next_attempt_time is None and status.phase not in FINISHED:
            now = now_text(utc_now())
            entry = HistoryEntry(
                time=now,
                attempt=status.attempt,
                type=Line.RESTARTED.reason,
                reason="RunnerLost",
                message="The runner on this machine had ended; going on.",
            )
            self._status = status.model_copy(
                update={
                    "phase": "Restarting",
                    "next_attempt_time": now,
                    "history": [*status.history, entry][-HISTORY_LENGTH:],
                }
            )
        self._save()

    def _save(self) -> None:
        self._object = {**self._object, "status": self._status.to_dict()}
        self._local.save(self._object)

    def _as_job(self) -> Job:
        return Job(self._object, local=self._local)

    def _end_all(self) -> None:
        """Nothing outlives the runner."""
        for pod in self._pods:
            if pod.is_alive:
                pod.kill()
        for pod in self._pods:
            if pod.process:
                pod.process.wait()
        remove_node_memory(self._local.directory.name)


def _in_local_words(status: JobStatus, job: Job) -> JobStatus:
    """A stop as this machine's user meets it: there is no field to set."""
    if not status.history or status.history[-1].type != Line.SUSPENDED.reason:
        return status
    message = "Stopped; the same command goes on from the last checkpoint."
    if sweep := sweep_of(job):
        message = f"Stopped by sweep {sweep}; what it saved stays."
    last = status.history[-1].model_copy(update={"message": message})
    return status.model_copy(update={"history": [*status.history[:-1], last]})


@contextlib.contextmanager
def held(local: LocalJob) -> Iterator[TextIO]:
    """The job's lock. Raises ClientError where another runner holds it."""
    local.directory.mkdir(parents=True, exist_ok=True)
    with local.lock_file.open("a+", encoding="utf-8") as file:
        if not try_lock(file.fileno()):
            raise already_runs(local)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield file


def already_runs(local: LocalJob) -> ClientError:
    """What is said where another runner holds the job or the sweep."""
    name = local.directory.parent.name
    is_sweep = local.directory.parents[1].name == SWEEPS
    ref, follow = (
        (f"sweep/{name}", f"watch sweep/{name}") if is_sweep else (name, f"logs {name} -f")
    )
    return ClientError(
        f"'{ref}' already runs on this machine, process {local.runner_pid}", f"trainyard {follow}"
    )


@contextlib.contextmanager
def stopping_on_signals(stop: StopRequest) -> Iterator[StopRequest]:
    """Ctrl-C, SIGTERM and a closed terminal ask `stop`, while the block runs."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def without_server(job: TrainingJob) -> TrainingJob:
    """The job without a TensorBoard, which is for clusters: here one is started by hand."""
    board = job.spec.tensor_board.model_copy(update={"serve": False})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"tensor_board": board})})


def planned(job: TrainingJob, status: JobStatus) -> Decision:
    """What the planner would do first, for --dry-run."""
    return plan(without_server(job), status, Observed(), utc_now(), Defaults())
