import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainyard_operator.contract import Cause, ExitCode
from trainyard_trainer.distributed import wait_for_name
from trainyard_trainer.errors import PeerLost
from trainyard_trainer.progress import Pace

HANGS = """
import sys, time
from pathlib import Path
from trainyard_trainer.watchdog import Watchdog

def never_returns():
    time.sleep(30)

dog = Watchdog(0.2, Path(sys.argv[1]), 3)
dog.start()
with dog.paused():
    time.sleep(0.5)
for _ in range(5):
    time.sleep(0.1)
    dog.beat()
print("alive", flush=True)
never_returns()
"""


def test_silent_rank_ends_with_its_stacks_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "failure-3.json"
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-c", HANGS, str(path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < 20
    assert found.stdout == "alive\n"
    assert found.returncode == ExitCode.PEER_LOST
    failure = json.loads(path.read_text())
    assert failure["exit_code"] == ExitCode.PEER_LOST
    assert failure["cause"] == Cause.STALLED
    assert failure["message"].startswith(
        "Rank 3 made no progress for 0 s (stallTimeoutSeconds 0.2)"
    )
    assert failure["message"].endswith("(never_returns).")
    assert "never_returns" in found.stderr


def test_name_of_a_new_pod_is_waited_for() -> None:
    answers = iter([OSError("no such name"), OSError("no such name"), []])

    def resolve(host: str, port: None) -> object:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    wait_for_name("job-master-0", time.monotonic() + 60, resolve)
    assert next(answers, None) is None


def test_name_that_never_comes_is_a_lost_peer() -> None:
    def resolve(host: str, port: None) -> object:
        raise OSError("no such name")

    with pytest.raises(PeerLost) as caught:
        wait_for_name("job-master-0", time.monotonic(), resolve)
    assert str(caught.value) == (
        "The first node's name 'job-master-0' does not resolve: no such name."
    )


def test_pace_leaves_pauses_out() -> None:
    pace = Pace()
    pace.restart(100.0, 0, 0)
    pace.update(102.0, 80, 10)
    assert (pace.samples_per_second, pace.steps_per_second) == (40, 5)
    pace.restart(500.0, 80, 10)
    pace.update(501.0, 120, 15)
    assert (pace.samples_per_second, pace.steps_per_second) == (40, 5)
