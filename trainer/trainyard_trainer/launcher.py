"""The entry point of a pod: prepares a node, runs its ranks, and says how they ended."""

import dataclasses
import json
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard_operator.contract import (
    STANDBY_SECONDS,
    TERMINATION_BYTES,
    TERMINATION_LOG,
    Cause,
    Env,
    Order,
    Standby,
    Summary,
    attempt_line,
)
from trainyard_operator.layout import RESULT_FILE, attempt_end_file
from trainyard_trainer import preparation
from trainyard_trainer.context import RunContext, report_file
from trainyard_trainer.errors import ConfigurationError, TrainyardError
from trainyard_trainer.fork_server import Preload
from trainyard_trainer.goodput import time_text
from trainyard_trainer.log_upload import NodeLogs
from trainyard_trainer.logs import Console
from trainyard_trainer.progress_server import ProgressServer, read_report
from trainyard_trainer.ranks import LIBRARIES, WORKER, ForkServer, Ranks
from trainyard_trainer.signals import SignalQueue
from trainyard_trainer.standby import OrderDesk, can_restart
from trainyard_trainer.storage import Storage
from trainyard_trainer.summary import Circumstances, RankEnd, compose
from trainyard_trainer.supervisor import Supervisor

FLUSH_SECONDS = 8.0
"""At the end, how long the last log segments may take."""


def launch(
    environ: Mapping[str, str], target: str = WORKER, libraries: tuple[str, ...] = LIBRARIES
) -> int:
    """Run this node's part of an attempt; returns the exit code of the container.

    target: `module:function` that each rank calls with its Rank. libraries: imported once
    for all ranks, and the recipe with them.
    """
    try:
        run = RunContext.from_environ(environ)
        _make_scratch(run)
    except ConfigurationError as error:
        summary = summary_of(error)
        Console().write(f"{summary.message}\n".encode())
        write_summary(Path(environ.get(Env.TERMINATION_LOG, TERMINATION_LOG)), summary)
        return summary.exit_code
    return _Launcher(run, target, libraries).run()


def _make_scratch(run: RunContext) -> None:
    try:
        run.scratch.mkdir(parents=True, exist_ok=True)
        report_file(run.scratch).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"environment: {Env.SCRATCH} '{run.scratch}' cannot be written "
            f"({os.strerror(error.errno or 0)}); mount a writable folder there."
        ) from error


class _Launcher:
    def __init__(self, run: RunContext, target: str, libraries: tuple[str, ...]) -> None:
        self._began = time.monotonic()
        self._signals = SignalQueue()
        self._signals.install()
        preload = Preload(
            libraries=libraries,
            worker=target.partition(":")[0],
            recipe=run.request.recipe if libraries else None,
        )
        self._server = ForkServer(preload, run.processes_per_node)
        self._run, self._target = run, target
        self._desk = OrderDesk(run.attempt, run.order_token, self._signals.wake)
        self._logs = NodeLogs(run, Console())
        self._storage: Storage | None = None

    def run(self) -> int:
        """All of it."""
        try:
            summary = self._train()
        except TrainyardError as error:
            summary = summary_of(error)
        except Exception as error:
            traceback.print_exc()
            text = traceback.format_exception_only(error)[-1].strip()
            summary = Summary(exit_code=1, message=f"the launcher failed: {text}")
        finally:
            self._desk.close()
            self._server.kill()
        self._logs.say(f"ends with exit code {summary.exit_code}: {summary.message}")
        write_summary(self._run.termination_log, summary)
        self._logs.close(FLUSH_SECONDS)
        return summary.exit_code

    def _train(self) -> Summary:
        """Attempt after attempt, as long as the planner orders another."""
        with self._signals.interrupting():
            run = self._prepare()
        ranks = Ranks(run.scratch, self._server, self._target)
        supervisor = Supervisor(self._server, ranks, self._signals, self._logs, self._desk)
        if order := self._desk.take():
            run = self._begin(order, run)
        while True:
            summary = self._summarise(run, *supervisor.watch(run))
            if self._desk.is_open and not self._desk.has_order and can_restart(summary):
                self._stand_by(run, summary, supervisor)
            order = self._desk.last_call()
            if order is None:
                return summary
            run = self._begin(order, run)

    def _summarise(self, run: RunContext, ends: Sequence[RankEnd], known: Circumstances) -> Summary:
        summary = compose(ends, known)
        self._record_end(run, summary)
        if run.node_index != 0:
            return summary
        report = read_report(run.scratch)
        return dataclasses.replace(
            summary,
            report=dataclasses.asdict(report) if report else None,
            result=any(end.rank == end.exit_code == 0 for end in ends) and self._has_result(),
        )

    def _record_end(self, run: RunContext, summary: Summary) -> None:
        """For result.json: a rank that was killed cannot say so itself."""
        known = {name: getattr(summary, name) for name in ("exit_code", "cause", "message", "rank")}
        end = {"attempt": run.attempt, "node": run.node_index, "time": time_text(time.time())}
        key = attempt_end_file(run.attempt, run.node_index)
        self._logs.keep(key, json.dumps(end | known).encode())

    def _stand_by(self, run: RunContext, summary: Summary, supervisor: Supervisor) -> None:
        self._logs.say(
            f"attempt {run.attempt} failed ({summary.message}); standing by for "
            f"{STANDBY_SECONDS:g} s to start again in place"
        )
        # As a kubelet would keep it, so that both ways tell the same.
        self._desk.stand_by(Standby(attempt=run.attempt, summary=json.loads(summary.to_json())))
        supervisor.stand_by(STANDBY_SECONDS)

    def _begin(self, order: Order, run: RunContext) -> RunContext:
        """The next attempt, with nothing left of the one before but what was prepared for all."""
        report_file(run.scratch).unlink(missing_ok=True)
        self._logs.begin_attempt(order.attempt)
        self._logs.say(attempt_line(order.attempt))
        return dataclasses.replace(run, attempt=order.attempt, master_port=order.master_port)

    def _prepare(self) -> RunContext:
        run = self._run
        ranks = f"ranks {run.first_rank}-{run.first_rank + run.processes_per_node - 1}"
        self._logs.say(
            f"job {run.namespace}/{run.job}, attempt {run.attempt}, recipe "
            f"{run.request.recipe}: {ranks} of {run.world_size}"
        )
        self._serve_progress()
        preparation.validate(run)
        run, self._storage = preparation.reach_storage(run, self._logs.say)
        self._logs.attach(self._storage)
        run = preparation.settle_dataset(run, self._logs.say)
        self._logs.say(f"prepared in {time.monotonic() - self._began:.1f} s")
        return run

    def _serve_progress(self) -> None:
        port = self._run.progress_port
        if port is None or (self._run.node_index != 0 and not self._desk.is_open):
            self._desk.close()
            return
        try:
            ProgressServer(self._run, port, self._desk)
        except OSError as error:
            self._desk.close()
            reason = os.strerror(error.errno) if error.errno else error
            self._logs.say(f"progress is not served on port {port}: {reason}")

    def _has_result(self) -> bool:
        try:
            return self._storage is not None and self._storage.exists(RESULT_FILE)
        except TrainyardError:
            return False


def write_summary(path: Path, summary: Summary) -> None:
    """Leave the termination message; where that cannot be, the exit code must do."""
    try:
        path.write_bytes(summary.to_json().encode()[:TERMINATION_BYTES])
    except OSError as error:
        Console(2).write(f"cannot write '{path}': {os.strerror(error.errno or 0)}\n".encode())


def summary_of(error: TrainyardError) -> Summary:
    """What ends a node before its ranks run: no traceback, one sentence."""
    return Summary(exit_code=int(error.exit_code), message=str(error), cause=Cause(error.cause))
