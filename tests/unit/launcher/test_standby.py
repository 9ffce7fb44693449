"""Ranks that start again in place: the launcher's half, with real processes and signals."""

import gzip
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from patience import WAIT_SECONDS
from unit.launcher.nodes import RUN_PREFIX, TOKEN, TRAINING, Launch, Planner, wait_for_lines

from trainyard_operator.contract import Report, Summary
from trainyard_trainer.context import report_file

T = TypeVar("T")


PATIENT = {"STANDBY_SECONDS": str(2 * WAIT_SECONDS)}
"""Of a launcher whose standby something else has to end."""


def summary_in(folder: Path) -> Summary:
    return Summary.from_json((folder / "termination-log").read_bytes())


def stored_log(folder: Path, attempt: int, name: str) -> str:
    logs = folder / "storage" / RUN_PREFIX / f"logs/a{attempt}" / name
    return "".join(
        gzip.decompress(path.read_bytes()).decode() for path in sorted(logs.glob("*.gz"))
    )


def status_of(pid: int) -> dict[str, str]:
    """Of a process; empty where there is none, or a zombie."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {} if status["State"].startswith("Z") else status


def children(pid: int) -> list[int]:
    """Zombies, too."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Counts(NamedTuple):
    """What a process holds."""

    descriptors: int
    threads: int
    own_kib: int

    def is_within(self, other: "Counts") -> bool:
        """Whether it is not more, but for the pages that an allocator fetches now and then."""
        pairs = zip(self, (*other[:2], other.own_kib + 1024), strict=True)
        return all(mine <= most for mine, most in pairs)


def counts(pid: int) -> Counts:
    status = status_of(pid)
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Counts(descriptors, int(status["Threads"]), int(status["RssAnon"].split()[0]))


def wait_for(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found


def test_ranks_start_again_in_place_when_ordered(
    tmp_path: Path, launch: Launch, planner: Planner
) -> None:
    process = launch("die_at_first", planner.environ(tmp_path))
    standby = planner.standby()
    assert standby is not None
    summary = Summary(**standby.summary)
    assert (standby.attempt, summary.exit_code, summary.rank) == (1, 137, 1)
    assert planner.order(2) == 202
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert summary_in(tmp_path) == Summary(exit_code=0, message="every rank ended well")
    said = "attempt 2 at port 23999, token (None, None)\n"
    assert f"\n{said}" in output
    assert f"\n[rank 1] {said}" in output
    helpers = re.findall(r"helper (\d+)", output)
    assert len(helpers) == 2
    wait_for(lambda: not any(status_of(int(pid)) for pid in helpers))
    assert TOKEN not in output
    first, second = (stored_log(tmp_path, attempt, "node-0") for attempt in (1, 2))
    assert "rank 1 was killed by SIGKILL\n" in first
    assert " ranks 0 are killed: a peer has failed\n" in first
    assert "standing by for 30 s to start again in place\n" in first
    assert second.splitlines()[0].endswith("attempt 2 is ordered: ranks start again in place")
    assert "ends with exit code 0" in second
    assert "helper" in stored_log(tmp_path, 1, "rank-1")
    assert stored_log(tmp_path, 2, "rank-1").endswith(said)


def test_order_ends_ranks_that_still_run(tmp_path: Path, launch: Launch, planner: Planner) -> None:
    process = launch("stay_until_attempt", planner.environ(tmp_path))
    wait_for(lambda: len(list((tmp_path / "scratch").glob("rank-*.pid"))) == 2)
    report_file(tmp_path / "scratch").write_text(Report(attempt=1, time="").to_json())
    assert planner.order(2) == 202
    assert planner.order(2) == 202
    assert planner.order(1) == 409
    assert planner.order(3, token="guessed") == 403
    wait_for(lambda: planner.request("GET", "/progress")[0] == 503)
    assert "trainyard_attempt{" in (metrics := planner.request("GET", "/metrics")[1])
    assert metrics.rstrip().endswith(" 2")
    assert planner.order(3) == 202
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, output
    assert output.count("is ordered: ranks start again in place") == 2


def test_without_an_order_the_node_ends_as_its_ranks_did(
    tmp_path: Path, launch: Launch, planner: Planner
) -> None:
    process = launch("raise_error", planner.environ(tmp_path) | {"STANDBY_SECONDS": "0.1"})
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 1
    assert summary_in(tmp_path).message.endswith("ValueError: loss is NaN at step 3")
    assert "standing by for 0.1 s" in output


def test_request_to_stop_ends_the_standby(tmp_path: Path, launch: Launch, planner: Planner) -> None:
    process = launch("rank_1_dies", planner.environ(tmp_path) | PATIENT)
    planner.standby()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == summary_in(tmp_path).exit_code == 137


def test_mistake_that_a_rank_finds_ends_the_node(
    tmp_path: Path, launch: Launch, planner: Planner
) -> None:
    process = launch("refuse", planner.environ(tmp_path))
    output, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 78
    assert "standing by" not in output


def test_request_to_stop_refuses_orders(tmp_path: Path, launch: Launch, planner: Planner) -> None:
    process = launch("ignore_stop", planner.environ(tmp_path))
    wait_for_lines(process, *TRAINING)
    process.send_signal(signal.SIGTERM)
    wait_for_lines(process, "[node 0] SIGTERM")
    assert planner.order(2) == 409
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 143


def test_rank_that_blames_a_peer_lets_it_speak(
    tmp_path: Path, launch: Launch, planner: Planner
) -> None:
    launch("blame_a_peer", planner.environ(tmp_path) | {"BLAME_SECONDS": str(WAIT_SECONDS)})
    standby = planner.standby()
    assert standby is not None
    assert standby.summary["message"] == "rank 1: ValueError: loss is NaN at step 3"


def test_lost_fork_server_ends_the_standby(
    tmp_path: Path, launch: Launch, planner: Planner
) -> None:
    process = launch("rank_1_dies", planner.environ(tmp_path) | PATIENT)
    planner.standby()
    (server,) = children(process.pid)
    os.kill(server, signal.SIGKILL)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == summary_in(tmp_path).exit_code == 137
    assert summary_in(tmp_path).rank == 1


def test_order_that_meets_a_dying_fork_server_ends_the_node(
    tmp_path: Path, launch: Launch, planner: Planner
) -> None:
    process = launch("rank_1_dies", planner.environ(tmp_path) | PATIENT)
    planner.standby()
    (server,) = children(process.pid)
    os.kill(process.pid, signal.SIGSTOP)  # It hears of both at once.
    os.kill(server, signal.SIGKILL)
    os.kill(process.pid, signal.SIGCONT)
    assert planner.order(2) in (202, 409)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 137


def test_restarts_leave_nothing_behind(tmp_path: Path, launch: Launch, planner: Planner) -> None:
    process = launch("lose_rank_1", planner.environ(tmp_path))
    (server,) = wait_for(lambda: children(process.pid))
    for attempt in range(1, 27):
        if attempt > 1:
            assert planner.order(attempt, master_port=24000 + attempt) == 202
        standby = planner.standby()
        assert standby is not None
        assert standby.attempt == attempt
        assert children(process.pid) == [server]
        assert children(server) == []
        if attempt == 6:
            early = counts(process.pid), counts(server)
    # Our connection may still be closing, and a log on its way to storage.
    wait_for(lambda: counts(process.pid).is_within(early[0]))
    wait_for(lambda: counts(server).is_within(early[1]))
    assert sorted(p.name for p in (tmp_path / "scratch").glob("failure-*")) == []
