import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from patience import WAIT_SECONDS

from trainyard_operator.contract import Cause, ExitCode
from trainyard_trainer.agreement import Agreement
from trainyard_trainer.distributed import World, wait_for_name, wait_for_store
from trainyard_trainer.errors import PeerLost
from trainyard_trainer.gang import Gang
from trainyard_trainer.progress import Pace
from trainyard_trainer.stragglers import Stragglers
from trainyard_trainer.watchdog import SLOW_FACTOR, Watchdog

pytestmark = pytest.mark.slow

HANGS = """
import sys, time
from pathlib import Path
from trainyard_trainer.stragglers import Stragglers
from trainyard_trainer.watchdog import Watchdog

def never_returns():
    time.sleep(30)

dog = Watchdog(1, Path(sys.argv[1]), 3, Path(sys.argv[2]).write_text)
dog.start()
with dog.paused():
    time.sleep(1.5)
for _ in range(12):
    time.sleep(0.1)
    dog.beat()
print("alive", flush=True)
never_returns()
"""


def run_script(script: str, *arguments: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_silent_rank_ends_with_its_stacks_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "failure-3.json"
    found = run_script(HANGS, path, tmp_path / "stacks")
    assert found.stdout == "alive\n"
    assert found.returncode == ExitCode.PEER_LOST
    failure = json.loads(path.read_text())
    assert failure["exit_code"] == ExitCode.PEER_LOST
    assert failure["cause"] == Cause.STALLED
    assert re.fullmatch(
        r"no progress for \d+ s \(stallTimeoutSeconds 1\); its main thread is at "
        r".*\(never_returns\)\.",
        failure["message"],
    )
    assert "Rank 3: no progress" in found.stderr
    assert ", in never_returns" in found.stderr
    assert (tmp_path / "stacks").read_text() in found.stderr
    assert not failure["waited"]


HOLDS = """
import ctypes, sys, time
from pathlib import Path
from trainyard_trainer.stragglers import Stragglers
from trainyard_trainer.watchdog import Watchdog

dog = Watchdog(1, Path(sys.argv[1]), 3)
dog.start()
with dog.paused():
    ctypes.PyDLL(None).usleep(1_500_000)
time.sleep(0.2)
print("alive", flush=True)
ctypes.PyDLL(None).sleep(30)
"""


def test_code_that_lets_no_other_thread_run_ends_with_its_stacks(tmp_path: Path) -> None:
    found = run_script(HOLDS, tmp_path / "failure-3.json")
    assert (found.stdout, found.returncode) == ("alive\n", 1)
    assert "Timeout" in found.stderr
    assert 'File "<string>", line ' in found.stderr


def test_what_is_slow_has_a_limit_of_its_own(tmp_path: Path) -> None:
    dog = Watchdog(10, tmp_path / "failure", 0)
    dog.allow("an evaluation")
    assert dog.last == pytest.approx(time.monotonic() + 10 * (SLOW_FACTOR - 1), abs=10)
    with dog.paused():
        assert dog.last == float("inf")
    assert dog.last > time.monotonic() + 10
    assert re.fullmatch(
        r"no progress for -?\d+ s during an evaluation \(6 x stallTimeoutSeconds 10\); its main "
        r"thread waits for other ranks at x.py:1 \(f\).",
        dog._message("x.py:1 (f)", True),
    )
    dog.beat()
    assert "during" not in dog._message("x.py:1 (f)", False)


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


def test_rank_0_is_waited_for_until_it_listens() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # Refuses until it listens.
        began = time.monotonic()
        threading.Timer(0.03, listener.listen).start()
        wait_for_store(*listener.getsockname(), began + WAIT_SECONDS)
        assert time.monotonic() - began > 0.02


def test_rank_0_that_never_listens_is_a_lost_peer() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with pytest.raises(PeerLost, match=r"Rank 0 does not listen at 127.0.0.1:\d+: .*refused"):
            wait_for_store(*listener.getsockname(), time.monotonic())


def test_pace_leaves_pauses_out() -> None:
    pace = Pace()
    pace.restart(100.0, 0, 0)
    pace.update(102.0, 80, 10)
    assert (pace.samples_per_second, pace.steps_per_second) == (40, 5)
    pace.restart(500.0, 80, 10)
    pace.update(501.0, 120, 15)
    assert (pace.samples_per_second, pace.steps_per_second) == (40, 5)


def test_rank_that_waits_for_an_answer_of_the_others_is_not_to_blame(tmp_path: Path) -> None:
    """As in an evaluation, where no gradients are exchanged: another rank has to come to it."""
    dog, answered, seen = Watchdog(10, tmp_path / "failure", 0), threading.Lock(), []
    agreement = Agreement(
        World(rank=0, world_size=1, device=torch.device("cpu"), gang=Gang()), Stragglers(0)
    )
    agreement._question = SimpleNamespace(wait=answered.acquire), torch.zeros(1)
    answered.acquire()

    def look() -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := dog._place())[0].startswith("agreement.py:"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        seen.append(found)
        answered.release()

    threading.Thread(target=look).start()
    agreement.settle()
    [(place, waits)] = seen
    assert place.startswith("agreement.py:")
    assert waits
