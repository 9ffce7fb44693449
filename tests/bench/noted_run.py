"""`trainyard run` of the recipe `noted`, to be disturbed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.notes import VARIABLE, Notes
from demo.jobs import write_job

TRAINYARD = Path(sys.executable).with_name("trainyard")
TESTS = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 150


@dataclass(frozen=True)
class Run:
    """A command that trains, and what its ranks note."""

    process: "subprocess.Popen[bytes]"
    notes: Notes
    log: Path
    place: Path

    def wait_until(self, is_true: Callable[[], bool], what: str) -> None:
        """Raises RuntimeError where the command ends before, or nothing comes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise RuntimeError(f"no {what}; the command's last words:\n{tail}")
            time.sleep(0.002)

    def wait_until_step(self, step: int) -> None:
        """Until rank 0 has done it."""

        def is_done() -> bool:
            note = self.notes.newest(0)
            return note is not None and note.step >= step

        self.wait_until(is_done, f"step {step}")

    def launcher_of(self, rank: int) -> int:
        """The process that stands in for the rank's pod: a child of the command."""
        note = self.notes.newest(rank)
        process = note.process if note else 0
        while (parent := parent_of(process)) != self.process.pid:
            process = parent
        return process


def parent_of(process: int) -> int:
    """Raises FileNotFoundError where the process is gone."""
    stat = Path(f"/proc/{process}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


@contextmanager
def started(command: list[str], place: Path, environment: Mapping[str, str]) -> Iterator[Run]:
    """A command whose ranks note their steps below `place`; it is killed at the end."""
    directory, log = place / "notes", place / "output.log"
    directory.mkdir(parents=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment, VARIABLE: str(directory)},
        )
    try:
        yield Run(process, Notes(directory), log, place)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def trainyard_run(place: Path, config: Mapping[str, Any], **spec: Any) -> Iterator[Run]:
    """The recipe with `config`, as `trainyard run --fresh` runs it; spec: fields of the job."""
    job = {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "noted"},
        "spec": {
            "recipe": "noted",
            "config": {
                "training": {"epochs": 1, "batch_size": 8, "device": "cpu"},
                **config,
            },
            "storage": {"uri": f"file://{place / 'runs'}"},
            "runPolicy": {"maxRestarts": 1000, "restartBackoff": {"initialSeconds": 0}},
            **spec,
        },
    }
    file = write_job(job, place / "job.yaml")
    environment = {
        "PYTHONPATH": install_recipe("noted", place / "packages"),
        "XDG_STATE_HOME": str(place / "state"),
    }
    with started([str(TRAINYARD), "run", str(file), "--fresh"], place, environment) as run:
        yield run


def install_recipe(name: str, place: Path) -> str:
    """What pip would leave of a package with the recipe bench.<name>; returns a PYTHONPATH."""
    package = name.replace("-", "_")
    metadata = place / f"{package}-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    entry = f"[trainyard.recipes]\n{name} = bench.{package}\n"
    (metadata / "entry_points.txt").write_text(entry)
    return os.pathsep.join(filter(None, [str(place), str(TESTS), os.environ.get("PYTHONPATH")]))
