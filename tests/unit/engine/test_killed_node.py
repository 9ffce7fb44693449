"""A launcher and its ranks are killed at random moments: what storage then has of the run."""

import gzip
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import HANG_SECONDS, lateness
from unit.engine import hangs
from unit.engine.test_hang import environ_of
from unit.engine.test_tracking import read_events

pytestmark = pytest.mark.slow
FLUSH_SECONDS = 1
LATE_SECONDS = 1.5
"""A flush itself takes a while."""
EPOCHS = 20
"""More than are trained before the last kill."""
STEPS = EPOCHS * 6
THROWN_AWAY = 2
"""Passes before the first step, for DDP."""


def start(folder: Path, attempt: int, pause: float = 0.2) -> "subprocess.Popen[bytes]":
    training = {"batch_size": 8, "epochs": EPOCHS, "log_every_steps": 1, "device": "cpu"}
    environ = environ_of(
        folder,
        attempt,
        config={"training": training, "hang": "never", "pause": pause},
        checkpoint={"everySteps": 7},
        logs={"flushSeconds": FLUSH_SECONDS},
        stall_timeout_seconds=600,
    )
    with (folder / f"output-{attempt}").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, str(hangs.__file__)], env=environ, stdout=output, stderr=output
        )


def kill(process: "subprocess.Popen[bytes]") -> float:
    """The launcher; the kernel then kills what it started. Returns when."""
    process.send_signal(signal.SIGKILL)
    killed = time.time()
    process.wait()
    return killed


def steps_printed(run: Path, attempt: int, rank: int) -> list[tuple[int, float]]:
    """Step and time of each line that a rank's stored log has of one."""
    pieces = sorted((run / f"logs/a{attempt}/rank-{rank}").glob("*.log.gz"))
    text = "".join(gzip.decompress(piece.read_bytes()).decode() for piece in pieces)
    return [(int(step), float(at)) for step, at in re.findall(r"step (\d+) of ([\d.]+)\n", text)]


def wait_for_steps(run: Path, attempt: int) -> None:
    """Until each rank's stored log has some."""
    deadline = time.monotonic() + HANG_SECONDS
    while not all(len(steps_printed(run, attempt, rank)) > THROWN_AWAY for rank in (0, 1)):
        assert time.monotonic() < deadline, "a rank has stored no step"
        time.sleep(0.05)


def curve(run: Path) -> list[int]:
    """The steps of the training loss, as TensorBoard shows it."""
    read = read_events(run / "tensorboard")
    tag = "train_loss_step"
    return [p.step for p in read.Scalars(tag)] if tag in read.Tags()["scalars"] else []


def test_kill_costs_one_flush_interval_and_no_step_is_there_twice(tmp_path: Path) -> None:
    chance, run = random.Random(), tmp_path / "storage/default/tiny/u1"
    for attempt in (1, 2, 3):
        process = start(tmp_path, attempt)
        wait_for_steps(run, attempt)
        with lateness(tmp_path / "written") as seconds_late:
            time.sleep(chance.uniform(0.5, 3))
            owed = kill(process) - FLUSH_SECONDS - LATE_SECONDS - seconds_late()
        for rank in (0, 1):
            printed = steps_printed(run, attempt, rank)
            steps = [step for step, _ in printed][THROWN_AWAY:]
            assert steps == list(range(steps[0], steps[0] + len(steps)))
            assert printed[-1][1] > owed
        shown = curve(run)
        assert shown == list(range(1, len(shown) + 1))
        assert {step for step, at in printed if at < owed} <= set(shown)
    process = start(tmp_path, 4, pause=0.0)
    assert process.wait(HANG_SECONDS) == 0, (tmp_path / "output-4").read_text()
    assert curve(run) == list(range(1, STEPS + 1))
    rows = (run / "metrics.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, STEPS + 1))
