"""What the client remembers on this machine: the last job, and every job of `trainyard run`.

last.json                        what @last stands for
jobs/<name>/<uid>/job.json       the TrainingJob with its status, as a cluster would keep it
jobs/<name>/<uid>/runner.lock    held by the runner while it lives; its process id
sweeps/<name>/<uid>/job.json     the same of a TrainingSweep, with the trials that it holds back
jobs/<name>/<uid>/a<attempt>/<pod>/   output.log and what the process leaves
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT_FILE = "output.log"
SWEEPS = "sweeps"
"""Folder of the state directory."""


def state_directory() -> Path:
    """Below XDG_STATE_HOME, or ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "trainyard"


def write_json(path: Path, value: Any) -> None:
    """Replace a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Its value, or None where it is absent or was cut off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class LocalJob:
    """One job of `trainyard run`."""

    directory: Path

    @property
    def object(self) -> dict[str, Any]:
        """The TrainingJob as a cluster would give it; empty where it is gone."""
        return read_json(self.directory / "job.json") or {}

    def save(self, value: dict[str, Any]) -> None:
        """Keep the TrainingJob with its status."""
        write_json(self.directory / "job.json", value)

    def attempt_directory(self, attempt: int) -> Path:
        """Where the processes of one attempt leave what they leave."""
        return self.directory / f"a{attempt}"

    @property
    def lock_file(self) -> Path:
        """Held by the runner while it lives."""
        return self.directory / "runner.lock"

    @property
    def runner_pid(self) -> int | None:
        """Process id of the runner, if one lives."""
        try:
            with self.lock_file.open("r") as file:
                if try_lock(file.fileno()):
                    return None
                return int(file.read() or 0) or None
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Forget the job; what lies in its storage stays."""
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.directory.parent.rmdir()


def try_lock(descriptor: int) -> bool:
    """Whether nobody else holds the file; it is then ours until it is closed."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def new_local_job(name: str, uid: str) -> LocalJob:
    """A place for a new job."""
    directory = state_directory() / "jobs" / name / uid
    directory.mkdir(parents=True, exist_ok=True)
    return LocalJob(directory)


def new_local_sweep(name: str, uid: str) -> LocalJob:
    """A place for a new sweep."""
    directory = state_directory() / SWEEPS / name / uid
    directory.mkdir(parents=True, exist_ok=True)
    return LocalJob(directory)


def newest_local_sweep(name: str) -> LocalJob | None:
    """The last sweep of that name."""
    return next(local_sweeps(name), None)


def local_sweeps(name: str | None = None) -> Iterator[LocalJob]:
    """Sweeps of `trainyard run` on this machine, the newest first."""
    return _kept(SWEEPS, name or "*")


def local_jobs(name: str | None = None) -> Iterator[LocalJob]:
    """Jobs of `trainyard run` on this machine, the newest first."""
    return _kept("jobs", name or "*")


def _kept(kind: str, name: str) -> Iterator[LocalJob]:
    found = (state_directory() / kind).glob(f"{name}/*/job.json")
    jobs = [LocalJob(path.parent) for path in found]
    return iter(sorted((job for job in jobs if job.object), key=_birth, reverse=True))


def _birth(job: LocalJob) -> tuple[str, int]:
    """Kubernetes' times have whole seconds; two runs may share one."""
    created = job.object["metadata"].get("creationTimestamp", "")
    return created, (job.directory / "job.json").stat().st_mtime_ns


def newest_local_job(name: str) -> LocalJob | None:
    """The last run of that name."""
    return next(local_jobs(name), None)


def remember_last(place: str, name: str, namespace: str, context: str | None = None) -> None:
    """What `@last` stands for from now on; place: local or cluster."""
    value = {"place": place, "name": name, "namespace": namespace, "context": context}
    write_json(state_directory() / "last.json", value)


def last_job() -> dict[str, Any] | None:
    """place, name, namespace and context of the job started last."""
    value = read_json(state_directory() / "last.json")
    return value if isinstance(value, dict) and "name" in value else None
