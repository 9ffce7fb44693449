"""Processes that stand in for pods: started from a pod's manifest, observed as a PodRecord."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from trainyard.local.launcher_line import LauncherLine
from trainyard.local.node_memory import remove_node_memory
from trainyard.state import OUTPUT_FILE
from trainyard_operator.contract import CONTAINER, TERMINATION_BYTES, Annotation, Label, Order
from trainyard_operator.observed import PodRecord, SeenStandby, Terminated, order_token

GRACE_SECONDS = 30
"""Kubernetes' own, where the template takes out the operator's."""
HOST = "localhost"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
"""Loaded here: the child of a fork must not import."""
_TAIL_BYTES = TERMINATION_BYTES
"""Twice what a kubelet keeps: torchrun's own traceback and table fill nearly all of that."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What is needed to start one process."""

    command: list[str]
    environ: dict[str, str]
    directory: Path
    """Takes the output and the termination message."""
    termination_log: Path
    progress_port: int


@dataclass
class ProcessPod:
    """A pod's manifest and the process that was started for it."""

    manifest: dict[str, Any]
    created: datetime
    directory: Path
    termination_log: Path
    line: LauncherLine
    """To its launcher, where it has one that takes orders."""
    standby: SeenStandby | None = None
    taken: int = 0
    """The newest attempt that it was ordered to begin in place."""
    process: "subprocess.Popen[bytes] | None" = None
    start_error: str = ""
    uid: str = field(default_factory=lambda: str(uuid4()))
    deadline: datetime | None = None
    finished: datetime | None = None
    exit_code: int | None = None
    was_killed: bool = False
    _oom_kills: int = 0

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def attempt(self) -> int:
        """The attempt it belongs to."""
        return int(self.manifest["metadata"]["labels"][Label.ATTEMPT])

    @property
    def node_index(self) -> int:
        """Which node of the gang it is."""
        return int(self.manifest["metadata"]["labels"][Label.NODE_INDEX])

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.exit_code is None

    @property
    def output_file(self) -> Path:
        """What it wrote to stdout and stderr."""
        return self.directory / OUTPUT_FILE

    def listen(self) -> bool:
        """Keep the question to its launcher open; false where there is nothing to ask, or nobody
        to answer yet."""
        takes_orders = bool(order_token(self.manifest["spec"]))
        return takes_orders and self.is_alive and self.standby is None and self.line.ask()

    def fileno(self) -> int:
        """Readable when its launcher has said something."""
        return self.line.fileno()

    def hear(self, now: datetime) -> None:
        """Take in what its launcher said."""
        self.standby = self.line.hear(now)

    def order(self, order: Order) -> None:
        """Have its launcher begin an attempt in place; it is asked again unless it agrees."""
        if self.line.order(order):
            self.standby, self.taken = None, order.attempt

    def poll(self, now: datetime) -> None:
        """Notice that the process has ended, and end what it left behind, as a container does."""
        if self.exit_code is not None:
            return
        if self.process is None:
            self.exit_code, self.finished = 127, now
            return
        code = self.process.poll()
        if code is not None:
            self.exit_code = code if code >= 0 else 128 - code
            self.finished = now
            self.line.close()
            self._signal_group(signal.SIGKILL)
        elif self.deadline and now >= self.deadline:
            self.kill()

    def stop(self, now: datetime, grace_seconds: int | None) -> None:
        """SIGTERM, and SIGKILL once the grace period is over."""
        grace = grace_seconds
        if grace is None:
            grace = int(self.manifest["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS))
        due = now + timedelta(seconds=grace)
        self.deadline = min(self.deadline, due) if self.deadline else due
        if grace == 0:
            self.kill()
        elif self.process and self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the process and all that it started."""
        self.was_killed = True
        self._signal_group(signal.SIGKILL)

    def record(self) -> PodRecord:
        """The pod as the planner sees it."""
        metadata = self.manifest["metadata"]
        phase = "Running" if self.is_alive else "Failed" if self.exit_code else "Succeeded"
        return PodRecord(
            name=self.name,
            uid=self.uid,
            attempt=self.attempt,
            node_index=self.node_index,
            phase=phase,
            created=self.created,
            node=HOST,
            ip="127.0.0.1",
            running=self.is_alive,
            deadline=self.deadline,
            scheduled=self.created,
            terminated=self._terminated(),
            spec_hash=metadata.get("annotations", {}).get(Annotation.SPEC_HASH, ""),
            order_token=order_token(self.manifest["spec"]),
            standby=self.standby,
            taken=self.taken,
        )

    def _terminated(self) -> Terminated | None:
        if self.exit_code is None:
            return None
        is_oom = self.exit_code == 137 and not self.was_killed and oom_kills() > self._oom_kills
        reason = "OOMKilled" if is_oom else "Error" if self.exit_code else "Completed"
        return Terminated(
            exit_code=self.exit_code,
            reason=reason,
            message=self._termination_message(),
            finished=self.finished,
        )

    def _termination_message(self) -> str:
        """The termination file, else the end of the output, as a kubelet gives it."""
        with contextlib.suppress(OSError):
            text = self.termination_log.read_text(encoding="utf-8", errors="replace")
            if text:
                return text[:TERMINATION_BYTES]
        if self.start_error:
            return self.start_error
        return tail_of(self.output_file) if self.exit_code else ""

    def _signal_group(self, number: int) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


def start_process(manifest: dict[str, Any], launch: Launch, now: datetime) -> ProcessPod:
    """Start what a pod's training container would; a command that cannot start has failed."""
    launch.directory.mkdir(parents=True, exist_ok=True)
    pod = ProcessPod(
        manifest=manifest,
        created=now,
        directory=launch.directory,
        termination_log=launch.termination_log,
        line=LauncherLine(launch.progress_port, order_token(manifest["spec"])),
    )
    pod._oom_kills = oom_kills()
    try:
        with pod.output_file.open("ab") as output:
            pod.process = subprocess.Popen(
                launch.command,
                env=launch.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  it takes no lock
            )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        pod.start_error = f"cannot start '{launch.command[0]}': {reason}"
    else:
        (launch.directory / "process.pid").write_text(
            f"{pod.process.pid} {start_ticks(pod.process.pid)}", encoding="utf-8"
        )
    return pod


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The training container of a pod."""
    found: dict[str, Any] = next(
        one for one in manifest["spec"]["containers"] if one["name"] == CONTAINER
    )
    return found


def end_leftovers(directory: Path) -> int:
    """Kill process groups that a runner left when it was killed itself; returns how many.

    What they kept in memory goes, too. directory: the job's, named after its uid.
    """
    ended = 0
    for path in directory.glob("a*/*/process.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid, ticks = path.read_text(encoding="utf-8").split()
            if start_ticks(int(pid)) == ticks:
                os.killpg(int(pid), signal.SIGKILL)
                ended += 1
        path.unlink(missing_ok=True)
    remove_node_memory(directory.name)
    return ended


def start_ticks(pid: int) -> str:
    """When a process started: with its number, this names it for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def tail_of(path: Path) -> str:
    """The last few lines of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def oom_kills() -> int:
    """How often this machine's kernel ended a process for want of memory."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _die_with(parent: int) -> Callable[[], None] | None:
    """Code for the child: be killed when the runner dies, however it dies. Linux only."""
    if not hasattr(_LIBC, "prctl"):
        return None

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
