"""(d) 500 MB from memory to a real S3 server, beside other clients, each in a process of its own.

Ours computes the SHA-256 of the whole besides; the others do not. The server shares the machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench.comparison import Absent, Comparison, Row
from bench.s3_client import BUCKET, CLIENTS
from cluster.s3 import S3, S3Access

REPETITIONS = 12
BOUND = 1.10
MOST_EXTRA_MB = 300.0
HERE = Path(__file__).resolve().parent


class Worker:
    """A running client."""

    def __init__(self, name: str, access: S3Access) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.extra_mb: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "s3_client.py"), name, access.endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **access.environment()},
        )
        self._answer()

    def do(self, verb: str, key: str, *, is_counted: bool = True) -> None:
        """Measure once."""
        assert self._process.stdin is not None
        print(verb, key, file=self._process.stdin, flush=True)
        found = self._answer()
        if is_counted:
            self.seconds.append(found["seconds"])
            self.extra_mb.append(found["extra_mb"])

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client {self.name} ended with {self._process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found


@contextmanager
def running_server() -> Iterator[S3Access]:
    """With the bucket, on a disk of its own."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name:
        root = Path(name) / "buckets"
        with S3(root) as access:
            (root / BUCKET).mkdir()
            yield access


def compare_upload(repetitions: int = REPETITIONS) -> list[Row]:
    """Against the quickest, and against each."""
    with running_server() as access, running_workers(access) as workers:
        run_in_turns(workers, "upload", "object", repetitions)
    return rows("upload of 500 MB", workers, BOUND)


@contextmanager
def running_workers(access: S3Access) -> Iterator[list[Worker]]:
    """Every client that is installed, ours first."""
    names = [name for name in CLIENTS if name == "trainyard" or find_spec(name)]
    with ExitStack() as stack:
        workers = [Worker(name, access) for name in names]
        for worker in workers:
            stack.callback(worker.close)
        yield workers


def run_in_turns(workers: list[Worker], verb: str, key: str, repetitions: int) -> None:
    """Everyone once unmeasured, then in turns, and each first as often as the others."""
    for worker in workers:
        worker.do(verb, key, is_counted=False)
    for repetition in range(repetitions):
        shift = repetition % len(workers)
        for worker in workers[shift:] + workers[:shift]:
            worker.do(verb, key)


def rows(what: str, workers: list[Worker], bound: float | None) -> list[Row]:
    """Speed beside each, judged beside the quickest; then memory. bound: None judges nothing."""
    ours, *others = workers
    others.sort(key=lambda worker: median(worker.seconds))
    found: list[Row] = [
        Comparison(
            what=what,
            ours=ours.seconds,
            other=other.seconds,
            other_name=other.name,
            bound=bound if other is others[0] else None,
        )
        for other in others
    ]
    found.append(
        Comparison(
            what=f"{what}: most memory",
            ours=ours.extra_mb,
            other=others[0].extra_mb,
            other_name=others[0].name,
            bound=MOST_EXTRA_MB if bound else None,
            bounded="worst",
            unit="MB",
            note="how much the process grew meanwhile, at its worst",
        )
    )
    absent = [name for name in CLIENTS if name not in {worker.name for worker in workers}]
    note = "it is not installed"
    return [*found, *(Absent(what=what, other_name=name, note=note) for name in absent)]


if __name__ == "__main__":
    for row in compare_upload():
        print("  ".join(row.cells()))
