"""Starting, finding and ending processes."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.console import ClusterError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

Command = Sequence[str | Path]


def run(
    command: Command,
    *,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    check: bool = True,
) -> str:
    """The command's standard output. Raises ClusterError with its last lines if it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        check=False,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=directory,
    )
    if check and result.returncode != 0:
        tail = "\n".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-15:])
        text = " ".join(map(str, command))
        raise ClusterError(f"`{text}` exited with {result.returncode}:\n{tail}")
    return result.stdout


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Daemon:
    """A running process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def require_alive(self) -> None:
        """Raises ClusterError with the end of the log if the process has ended."""
        if self.process.poll() is not None:
            raise ClusterError(
                f"{self.name} exited with {self.process.returncode}; the end of {self.log}:\n"
                + tail(self.log)
            )

    def kill(self) -> None:
        """SIGKILL: kube-apiserver takes over a minute to stop on SIGTERM."""
        self.process.kill()
        self.process.wait()


def spawn(
    name: str,
    command: Command,
    log: Path,
    *,
    outlive: bool = False,
    cgroups: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Daemon:
    """Starts a process that writes to `log`.

    outlive: in a session of its own, to go on when the caller ends; else it dies with the thread
        that called.
    cgroups: directories of cgroups that it starts in, with all its children.
    """

    def prepare() -> None:
        if not outlive:
            _die_with_parent()
        for cgroup in cgroups:
            (cgroup / "cgroup.procs").write_text("0")

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            cwd="/",
            start_new_session=outlive,
            preexec_fn=prepare,  # noqa: PLW1509  it takes no lock and imports nothing
        )
    return Daemon(name, process, log)


def wait_until(
    question: Callable[[], bool],
    what: str,
    timeout_seconds: float,
    daemons: Sequence[Daemon] = (),
    interval_seconds: float = 0.1,
) -> None:
    """Polls until the question is true. Raises ClusterError late, or when a daemon has died."""
    deadline = time.monotonic() + timeout_seconds
    while not question():
        for daemon in daemons:
            daemon.require_alive()
        if time.monotonic() > deadline:
            logs = "".join(f"\nthe end of {d.log}:\n{tail(d.log)}" for d in daemons)
            raise ClusterError(f"{what}: not so after {timeout_seconds:g} s.{logs}")
        time.sleep(interval_seconds)


def tail(log: Path, lines: int = 15) -> str:
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def is_listening(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def processes_with(name: str, text: str) -> list[int]:
    """The processes of that program that have the text in their arguments."""
    return [
        pid
        for pid, arguments, _ in _processes()
        if Path(arguments.partition("\0")[0]).name == name and text in arguments
    ]


def kill_processes_of(folder: Path) -> None:
    """SIGKILL to those that name the folder in their arguments or have it as their root."""
    for pid, arguments, root in _processes():
        if pid != os.getpid() and (str(folder) in arguments or folder in root.parents):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[tuple[int, str, Path]]:
    """Number, arguments and root folder of each."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (folder / "cmdline").read_text(errors="replace")
            yield int(folder.name), arguments, (folder / "root").readlink()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in ("Z", "X")
