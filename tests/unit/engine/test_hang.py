"""Two ranks under a real launcher, one of which makes no progress: the verdict names it."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import HANG_SECONDS
from ports import free_port
from unit.engine import hangs
from unit.engine.hangs import SLOW_SECONDS

from trainyard_operator.contract import Cause, Env, ExitCode, Summary
from trainyard_operator.layout import stall_file

pytestmark = pytest.mark.slow
STALL_SECONDS = 2


def environ_of(folder: Path, attempt: int = 1, **request: Any) -> dict[str, str]:
    """Of the only node of an attempt, with two ranks."""
    asked = {"recipe": "tiny-hang"} | request
    return os.environ | {
        Env.JOB: "tiny",
        Env.NAMESPACE: "default",
        Env.JOB_UID: "u1",
        Env.ATTEMPT: str(attempt),
        Env.NODES: "1",
        Env.NODE_INDEX: "0",
        Env.PROCESSES_PER_NODE: "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        Env.SCRATCH: str(folder / f"scratch-{attempt}"),
        Env.TERMINATION_LOG: str(folder / "termination-log"),
        Env.STORAGE_URI: (folder / "storage").as_uri(),
        Env.RUN: json.dumps(asked),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }


def run_node(folder: Path, how: str, stall_seconds: int = STALL_SECONDS) -> tuple[Summary, str]:
    """Its last words, and all that it printed."""
    training = {"batch_size": 8, "epochs": 2, "log_every_steps": 2, "device": "cpu"}
    ran = subprocess.run(
        [sys.executable, str(hangs.__file__)],
        env=environ_of(
            folder,
            config={"training": training, "hang": how},
            stall_timeout_seconds=stall_seconds,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    summary = Summary.from_json((folder / "termination-log").read_bytes())
    assert summary.exit_code == ran.returncode, ran.stdout
    return summary, ran.stdout


def stored(folder: Path, key: str) -> str:
    return (folder / "storage/default/tiny/u1" / key).read_text()


def stored_log(folder: Path, rank: int) -> str:
    pieces = sorted((folder / f"storage/default/tiny/u1/logs/a1/rank-{rank}").iterdir())
    return "".join(gzip.decompress(piece.read_bytes()).decode() for piece in pieces)


@pytest.mark.parametrize(
    ("how", "place"),
    [("data", "(__getitem__)."), ("python", "(meet_fate).")],
    ids=["data", "python"],
)
def test_rank_that_hangs_is_named_with_its_place_and_all_leave_their_stacks(
    tmp_path: Path, how: str, place: str
) -> None:
    summary, output = run_node(tmp_path, how)
    assert (summary.exit_code, summary.cause) == (ExitCode.PEER_LOST, Cause.STALLED), output
    assert re.match(r"rank 1: no progress for \d+ s \(stallTimeoutSeconds 2\); ", summary.message)
    assert "its main thread is at hangs.py:" in summary.message
    assert summary.message.endswith(place)
    culprit, victim = (stored(tmp_path, stall_file(1, rank)) for rank in (1, 0))
    assert place.strip("().") in culprit
    assert "its main thread waits for other ranks at" in victim
    assert "Thread 'MainThread'" in victim
    for rank in (0, 1):
        assert f"Rank {rank}: no progress" in stored_log(tmp_path, rank)


def test_stopped_rank_is_named_though_it_cannot_speak(tmp_path: Path) -> None:
    summary, output = run_node(tmp_path, "stopped")
    assert (summary.exit_code, summary.cause) == (ExitCode.PEER_LOST, Cause.STALLED), output
    assert summary.message == (
        "rank 1 made no progress and did not answer its watchdog; it was stopped, as by SIGSTOP; "
        "rank 0 waited for it"
    )


def test_slow_data_and_slow_reports_are_no_stall(tmp_path: Path) -> None:
    summary, output = run_node(tmp_path, "slow", stall_seconds=SLOW_SECONDS - 1)
    assert summary.exit_code == 0, output
