"""Starts companions with programs, as a pod or `trainyard run` does, over file:// storage."""

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patience import HANG_SECONDS, WAIT_SECONDS
from ports import free_port
from unit.launcher.nodes import RUN_PREFIX, make_environ

from trainyard_operator.companion import SUPERVISED
from trainyard_operator.contract import Env, Summary

PYTHON = ("python3", "-c")


@dataclass
class Trial:
    """One node of a job, attempt after attempt, everything below `folder`."""

    folder: Path
    port: int
    attempt: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def shared(self) -> Path:
        return self.folder / f"shared-{self.attempt}"

    @property
    def checkpoint(self) -> Path:
        return self.shared / "checkpoint"

    @property
    def run(self) -> Path:
        """Where the run's results lie."""
        return self.folder / "storage" / RUN_PREFIX

    def start(self, *command: str, **request: Any) -> "subprocess.Popen[bytes]":
        """The next attempt."""
        self.attempt += 1
        own = {
            Env.ATTEMPT: str(self.attempt),
            Env.SHARED: str(self.shared),
            Env.CHECKPOINT_DIR: str(self.checkpoint),
            Env.PROGRESS_FILE: str(self.shared / "progress.json"),
            Env.PROGRESS_PORT: str(self.port),
            Env.SCRATCH: str(self.shared),
            "PYTHONUNBUFFERED": "1",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        given = make_environ(self.folder, ranks=1, **{"recipe": "", **request})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainyard_trainer.companion", *command],
            env=given | own,
            stdout=(self.folder / "output").open("ab"),
            stderr=subprocess.STDOUT,
        )
        return self.process

    def start_as_pod(
        self, *command: str
    ) -> "tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]":
        """The companion, and the program's container beside it, as the operator builds it."""
        companion = self.start()
        environ = {
            Env.SHARED: str(self.shared),
            Env.CHECKPOINT_DIR: str(self.checkpoint),
            Env.TERMINATION_LOG: str(self.folder / "termination-log"),
            "PATH": os.environ["PATH"],
        }
        program = subprocess.Popen(
            [*SUPERVISED, *command],
            env=environ,
            stdout=(self.folder / "output").open("ab"),
            stderr=subprocess.STDOUT,
        )
        return companion, program

    def finish(self, *command: str, **request: Any) -> Summary:
        """An attempt to its end."""
        code = self.start(*command, **request).wait(timeout=HANG_SECONDS)
        summary = self.summary()
        assert summary.exit_code == code
        return summary

    def summary(self) -> Summary:
        """The termination message."""
        return Summary.from_json((self.folder / "termination-log").read_text())

    def wait_for(self, question: Callable[[], Any]) -> Any:
        """Until it is answered."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (answer := question()):
            assert time.monotonic() < deadline, (self.folder / "output").read_text()
            time.sleep(0.05)
        return answer

    def report(self) -> dict[str, Any]:
        """The newest report; empty where there is none."""
        try:
            found: dict[str, Any] = json.loads((self.shared / "report.json").read_text())
        except OSError:
            return {}
        return found

    def copies(self) -> list[str]:
        """Manifests of the directory in storage."""
        return sorted(
            path.relative_to(self.run).as_posix() for path in self.run.glob("directory/*/*/*.json")
        )

    def log(self) -> list[str]:
        """Lines of the program in storage, of the newest attempt, without their times."""
        pieces = sorted(self.run.glob(f"logs/a{self.attempt}/rank-0/*.log.gz"))
        lines = "".join(gzip.decompress(piece.read_bytes()).decode() for piece in pieces)
        return [line.partition(" ")[2] for line in lines.splitlines()]


def make_trial(folder: Path) -> Trial:
    """A job that has not run yet."""
    return Trial(folder, free_port())
