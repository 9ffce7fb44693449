"""A run on this machine whose rank is killed goes on in the processes that are there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import HANG_SECONDS, WAIT_SECONDS

from trainyard.jobs import Job
from trainyard.logs import LogReader
from trainyard.state import LocalJob
from trainyard_operator.contract import attempt_begun, attempt_line
from trainyard_trainer.digits import write_digits

OUTPUT = f"""[node 0] job default/digits, attempt 1, recipe classification: ranks 0-1 of 2
one
[rank 1] uno
[node 0] attempt 1 failed (rank 1 was killed by SIGKILL); standing by
[node 0] {attempt_line(2)}
two
[rank 1] attempt 9 is ordered
[rank 1] dos
"""


@pytest.fixture
def reader(tmp_path: Path) -> LogReader:
    pod = tmp_path / "a1" / "digits-master-0"
    pod.mkdir(parents=True)
    (pod / "output.log").write_text(OUTPUT)
    job = {"metadata": {"name": "digits"}, "spec": {"command": ["x"], "processesPerNode": 2}}
    return LogReader(Job(job, local=LocalJob(tmp_path)), None)


@pytest.mark.parametrize(
    ("attempt", "texts"),
    [
        (1, ["one", "uno"]),
        (2, ["two", "attempt 9 is ordered", "dos"]),
        (None, ["one", "uno", "two", "attempt 9 is ordered", "dos"]),
    ],
)
def test_lines_belong_to_the_attempt_that_wrote_them(reader, attempt, texts) -> None:
    lines = reader.poll(attempt)
    assert [line.text for line in lines if line.rank is not None] == texts
    assert reader.poll(attempt) == []


def test_only_the_launchers_own_line_begins_an_attempt() -> None:
    assert attempt_begun(f"[node 3] {attempt_line(12)}") == 12
    assert attempt_begun(f"[rank 3] {attempt_line(12)}") is None
    assert attempt_begun(attempt_line(12)) is None
    assert attempt_begun("[node 3] attempt 12 is over") is None


class Run:
    """`trainyard run` of the digits, which are made to last."""

    def __init__(self, place: Path, job: Path) -> None:
        self.place = place
        words = [sys.executable, "-m", "trainyard.cli", "run", str(job)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)

    def pod(self, index: int) -> Path:
        name = "digits-master-0" if index == 0 else "digits-worker-0"
        return next(self.place.glob(f"state/trainyard/jobs/digits/*/a1/{name}"))

    def report(self) -> dict[str, Any]:
        return json.loads((self.pod(0) / "report.json").read_text())

    def wait(self, question: Callable[[dict[str, Any]], object]) -> float:
        """Until a report answers it; returns when that was."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if question(self.report()):
                    return time.monotonic()
            except (StopIteration, OSError, ValueError):
                pass
            time.sleep(0.01)
        raise AssertionError(f"no such report: {self.process.poll()}")

    def launchers(self) -> list[str]:
        return [(self.pod(index) / "process.pid").read_text() for index in (0, 1)]


@pytest.mark.slow
def test_killed_rank_is_back_in_the_same_launchers(write_job, trainyard, place: Path) -> None:
    write_digits(place / "data")
    job = write_job(
        Path("digits.yaml"),
        nodes=2,
        recipe="classification",
        config={
            "training": {"epochs": 12, "batch_size": 64},
            "data": {"image_size": 32},
            "model": {"architecture": "small_cnn"},
        },
        dataset={"uri": (place / "data").as_uri()},
        storage={"uri": (place / "runs").as_uri()},
    )
    assert yaml.safe_load(job.read_text())["spec"]["nodes"] == 2
    run = Run(place, job)
    try:
        run.wait(lambda report: report["latest"] and report["progress"]["step"] >= 30)
        before = run.launchers()
        os.kill(int((run.pod(1) / "rank-1.pid").read_text()), signal.SIGKILL)
        killed = time.monotonic()
        back = run.wait(
            lambda r: r["attempt"] == 2 and r["progress"]["step"] > (r["resumed_step"] or 0)
        )
        print(f"from the kill to a reported new step: {back - killed:.2f} s")
        assert run.launchers() == before
        _, err = run.process.communicate(timeout=HANG_SECONDS)
    finally:
        run.process.kill()
    assert run.process.returncode == 0
    assert "Restarted in place; restart 1 of 3." in err
    assert "Attempt 2 runs in the same pods: 2 nodes, 2 ranks." in err
    status = json.loads(trainyard("get", "digits", "-o", "json").out)["status"]
    assert (status["attempt"], status["podsAttempt"]) == (2, 1)
    assert list(Path("/dev/shm").glob(f"trainyard-{run.pod(0).parent.parent.name}-*")) == []
