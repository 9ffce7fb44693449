"""Does for a program of any image what our launcher does for a recipe, from beside it.

    python -m trainyard_trainer.companion                        in a pod: a container of its own
    python -m trainyard_trainer.companion COMMAND [ARGUMENT...]  here: starts the program, too

The program runs under `program.py`, which speaks with the companion through files. Nothing here
imports torch.
"""

import dataclasses
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from trainyard_operator.contract import Env, Summary
from trainyard_operator.layout import log_prefix
from trainyard_trainer import preparation, program
from trainyard_trainer.companion_directory import ProgramDirectory
from trainyard_trainer.context import RunContext, report_file
from trainyard_trainer.errors import Stopped, TrainyardError
from trainyard_trainer.launcher import summary_of
from trainyard_trainer.log_upload import NodeLogs
from trainyard_trainer.logs import Console, LogStream
from trainyard_trainer.program_output import OutputReader
from trainyard_trainer.program_report import ProgramReport
from trainyard_trainer.program_summary import End, compose
from trainyard_trainer.progress_server import ProgressServer, read_report
from trainyard_trainer.signals import STOPS, SignalQueue
from trainyard_trainer.standby import OrderDesk

TICK_SECONDS = 0.25
FLUSH_SECONDS = 8.0
"""At the end, how long the last log segments may take."""
TAIL_LINES = 200
"""torchrun's own account of a failure is longer than that of the program."""
SEGMENTS_PER_LIFE = 10_000
"""A companion that starts again must not write a segment's name twice."""
TOKEN_FILE, LIVES_FILE = "token", "lives"


class Companion:
    """One node of one attempt."""

    def __init__(self, run: RunContext, shared: Path, command: Sequence[str]) -> None:
        """command: the program's, for messages; and to start it, where this is no pod."""
        self._run, self._shared, self._command = run, shared, command
        self._signals = SignalQueue()
        self._signals.install()
        self._wrapper: subprocess.Popen[bytes] | None = None
        self._has_to_stop = False
        self._life = _count_life(shared)
        self._logs = NodeLogs(run, Console(), self._life * SEGMENTS_PER_LIFE)
        self._stream = self._open_stream()
        self._output = OutputReader(shared, shared / program.OUTPUT, self._stream)
        token = _make_token(shared / TOKEN_FILE)
        self._report = ProgramReport(
            report_file(shared), shared / "progress.json", run.attempt, token
        )
        self._directory = ProgramDirectory(run, shared, self._report, self._logs.say, self._life)
        self._stalled_seconds: int | None = None

    def serve(self, wrapper: "subprocess.Popen[bytes] | None") -> None:
        """Everything, until the program has ended. wrapper: where this process started it."""
        self._wrapper = wrapper
        threading.Thread(target=self._live, name="heartbeat", daemon=True).start()
        if not (self._shared / program.SUMMARY).exists():
            self._accompany()
            self._logs.close(FLUSH_SECONDS)
        # A sidecar that ends while the program's container does would be started again.
        while wrapper is None and not self._has_to_stop:
            select.select([self._signals], [], [])
            self._note_signals()

    def _accompany(self) -> None:
        summary = self._prepare()
        if summary is None:
            program.write_whole(self._shared / program.READY, "")
            summary = self._tend()
        if summary is not None:
            self._logs.say(f"ends with exit code {summary.exit_code}: {summary.message}")
            program.write_whole(self._shared / program.SUMMARY, summary.to_json())

    def _note_signals(self) -> None:
        self._has_to_stop |= any(number in STOPS for number in self._signals.take())

    def _prepare(self) -> Summary | None:
        """None where the program can start; else why not."""
        try:
            with self._signals.interrupting():
                run, storage = preparation.reach_storage(self._run, self._logs.say)
                self._logs.attach(storage)
                self._serve_progress()
                preparation.settle_dataset(run, self._logs.say)
                self._directory.prepare(storage)
        except TrainyardError as error:
            self._has_to_stop = isinstance(error, Stopped)
            return summary_of(error)
        except Exception as error:
            traceback.print_exc()
            text = traceback.format_exception_only(error)[-1].strip()
            return Summary(exit_code=1, message=f"the companion failed: {text}")
        return None

    def _serve_progress(self) -> None:
        if self._run.progress_port is None or self._run.node_index != 0:
            return
        desk = OrderDesk(self._run.attempt, None, self._signals.wake)
        try:
            ProgressServer(self._run, self._run.progress_port, desk, self._report.inboxes)
        except OSError as error:
            self._logs.say(f"progress is not served: {error}")

    def _tend(self) -> Summary | None:
        """While the program runs; None where its container is gone without a word."""
        while True:
            select.select([self._signals], [], [], TICK_SECONDS)
            self._note_signals()
            if self._has_to_stop:
                if self._wrapper is None:
                    break  # A kubelet ends us after the program's container, and not before.
                self._wrapper.send_signal(signal.SIGTERM)
                self._has_to_stop = False
            end = self._read_end()
            self._take_in()  # After that: what it told just before it ended counts.
            if end:
                return self._conclude(end)
            if self._wrapper is not None and self._wrapper.poll() is not None:
                break
        self._logs.say("the program's container is gone without a word")
        self._output.finish()
        self._directory.finish(End(exit_code=-signal.SIGKILL))
        return None

    def _take_in(self) -> None:
        self._output.read()
        if time.monotonic() >= self._logs.flush_at:
            self._output.note()
        self._logs.flush_due(time.monotonic())
        if complaint := self._report.read_file():
            self._logs.say(f"{Env.PROGRESS_FILE}: {complaint}")
        self._directory.tell()
        self._watch_steps()

    def _watch_steps(self) -> None:
        """A program that has reported a step, and then none for long, hangs."""
        silent = self._report.seconds_without_step(time.monotonic())
        if self._stalled_seconds is None and silent > self._run.request.stall_timeout_seconds:
            self._stalled_seconds = int(silent)
            self._logs.say(f"no step for {silent:.0f} s: the program is killed")
            program.write_whole(self._shared / program.KILL, "")

    def _read_end(self) -> End | None:
        try:
            raw = json.loads((self._shared / program.END).read_text())
            return End.from_dict(raw, self._stalled_seconds)
        except (OSError, ValueError, KeyError):
            return None

    def _conclude(self, end: End) -> Summary:
        self._output.finish()
        run = self._run
        rank = run.node_index if run.processes_per_node == 1 else None
        summary = compose(end, self._command, rank, self._stream.tail)
        if lost := self._directory.finish(end):
            summary = self._with_loss(summary, end, lost)
        self._directory.tell()
        report = read_report(self._shared) if run.node_index == 0 else None
        last = dataclasses.asdict(report) if report else None
        return dataclasses.replace(summary, report=last, ended=end.ended)

    def _with_loss(self, summary: Summary, end: End, lost: str) -> Summary:
        """A program that ended well has not, as long as what it left is not stored."""
        self._logs.say(lost)
        if end.exit_code == 0 and not end.stopped:
            return summary_of(self._directory.loss(lost))
        return summary

    def _open_stream(self) -> LogStream:
        run, first = self._run, self._run.first_rank
        upload = bool(run.request.logs.get("upload", True))
        stream = LogStream(
            Console(-1),
            "",
            log_prefix(run.attempt, first) if upload else None,
            tail_lines=TAIL_LINES,
            first_segment=self._life * SEGMENTS_PER_LIFE,
        )
        self._logs.add_rank(first, stream)
        return stream

    def _live(self) -> None:
        while True:
            with suppress(OSError):
                (self._shared / program.ALIVE).touch()
            time.sleep(1.0)


def _count_life(shared: Path) -> int:
    """How many companions there were before in this pod."""
    path = shared / LIVES_FILE
    try:
        life = int(path.read_text())
    except (OSError, ValueError):
        life = 0
    path.write_text(str(life + 1))
    return life


def _make_token(path: Path) -> str:
    """What Kubeflow's clients look for in a file; the same for all lives."""
    with suppress(FileExistsError), path.open("x") as file:
        file.write(secrets.token_hex())
    return path.read_text()


def bring_wrapper(shared: Path) -> Path:
    """Put `program.py` where the program's container finds it."""
    target = shared / "program.py"
    temporary = target.with_suffix(".tmp")
    shutil.copyfile(program.__file__, temporary)
    temporary.replace(target)
    return target


def start_wrapper(path: Path, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Run the program under it, as a process of ours."""
    return subprocess.Popen([sys.executable, str(path), *command])


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code of the program, where this process started it."""
    shared = Path(environ[Env.SHARED])
    shared.mkdir(parents=True, exist_ok=True)
    path = bring_wrapper(shared)
    run = RunContext.from_environ(environ)
    command = list(arguments) or json.loads(environ.get(Env.PROGRAM, "[]"))
    companion = Companion(run, shared, command)
    wrapper = start_wrapper(path, command) if arguments else None
    companion.serve(wrapper)
    return wrapper.wait() if wrapper is not None else 0


if __name__ == "__main__":
    code = 1
    try:
        code = main(sys.argv[1:], os.environ)
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code)
