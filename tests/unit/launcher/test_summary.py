"""How the ends of ranks become one sentence."""

import signal
from typing import Any

import pytest

from trainyard_operator.contract import Cause, Summary
from trainyard_trainer.context import Failure
from trainyard_trainer.summary import Circumstances, RankEnd, compose

MEMORY_HINT = "if memory ran out, raise resources.limits.memory"


def end(rank: int, code: int, time: float = 0, **known: Any) -> RankEnd:
    return RankEnd(rank=rank, exit_code=code, time=time, **known)


def said(code: int, cause: Cause, message: str) -> Failure:
    return Failure(exit_code=code, cause=cause, message=message)


LOST_PEER = said(76, Cause.PEER_LOST, "lost rank 1")
SAVED = said(75, Cause.CHECKPOINTED, "stopped on request; a checkpoint was saved")
STALLED = said(76, Cause.STALLED, "no progress for 600 s; its main thread is at data.py:3 (load).")
WAITED = Failure(exit_code=76, cause=Cause.STALLED, message="no progress", waited=True)
TERM, KILL = signal.SIGTERM, signal.SIGKILL

ROWS = [
    ("all well", [end(0, 0), end(1, 0)], Circumstances(), (0, None, None, "every rank ended well")),
    (
        "the first failure by time counts",
        [end(0, 1, 2.0), end(1, 3, 1.0)],
        Circumstances(),
        (3, 1, "UserExit", "rank 1 exited with code 3"),
    ),
    (
        "a failure outranks an earlier lost peer",
        [end(0, 76, 1.0, failure=LOST_PEER), end(1, 1, 2.0, told=TERM)],
        Circumstances(),
        (1, 1, "UserExit", "rank 1 exited with code 1"),
    ),
    (
        "a rank that hangs outranks one that waited for it",
        [end(0, 76, 1.0, failure=WAITED), end(1, 76, 2.0, failure=STALLED)],
        Circumstances(),
        (76, 1, "Stalled", f"rank 1: {STALLED.message}"),
    ),
    (
        "a rank that waited outranks one that lost it",
        [end(0, 76, 2.0, failure=WAITED), end(1, 76, 1.0, failure=LOST_PEER)],
        Circumstances(),
        (76, 0, "Stalled", "rank 0: no progress"),
    ),
    (
        "a rank that did not even answer is what the other waited for",
        [end(0, 76, 1.0, failure=WAITED), end(1, -9, 2.0, told=KILL, was_stopped=True)],
        Circumstances(),
        (
            76,
            1,
            "Stalled",
            "rank 1 made no progress and did not answer its watchdog; it was stopped, as by "
            "SIGSTOP; rank 0 waited for it",
        ),
    ),
    (
        "a lost peer outranks what was sent",
        [end(0, 76, 1.0, failure=LOST_PEER), end(1, -15, 2.0, told=TERM)],
        Circumstances(),
        (76, 0, "PeerLost", "rank 0: lost rank 1"),
    ),
    (
        "a kill that nobody sent outranks a lost peer",
        [end(0, 76, 1.0, failure=LOST_PEER), end(1, -9, 2.0, told=TERM)],
        Circumstances(),
        (137, 1, "UserExit", f"rank 1 was killed by SIGKILL; {MEMORY_HINT}"),
    ),
    (
        "a mistake speaks for itself",
        [end(2, 78, failure=said(78, Cause.CONFIGURATION, "spec.config.x: wrong."))],
        Circumstances(),
        (78, 2, "ConfigurationError", "spec.config.x: wrong."),
    ),
    (
        "only the first line of a message",
        [end(2, 1, failure=said(1, Cause.USER_EXIT, "CUDA error: launch failure\nFor debugging"))],
        Circumstances(),
        (1, 2, "UserExit", "rank 2: CUDA error: launch failure"),
    ),
    (
        "the last line stands in for a message",
        [end(2, 1, log_tail=["Segment gone", " "])],
        Circumstances(),
        (1, 2, "UserExit", "rank 2 exited with code 1: Segment gone"),
    ),
    (
        "the kernel's word for lack of memory",
        [end(5, -9)],
        Circumstances(out_of_memory=True, memory_limit_bytes=64 * 2**30),
        (
            137,
            5,
            "OutOfMemory",
            "rank 5 exceeded its 64 GiB memory limit; raise resources.limits.memory",
        ),
    ),
    (
        "another signal",
        [end(1, -11)],
        Circumstances(),
        (139, 1, "UserExit", "rank 1 was killed by SIGSEGV"),
    ),
    (
        "saved and stopped",
        [end(0, 75, 1.0, told=TERM, failure=SAVED), end(1, 75, 2.0, told=TERM, failure=SAVED)],
        Circumstances(stop_seconds=50),
        (75, 0, "Checkpointed", "stopped on request; a checkpoint was saved"),
    ),
    (
        "stopped before the worker listened",
        [end(0, -15, told=TERM)],
        Circumstances(stop_seconds=50),
        (75, None, "Checkpointed", "stopped on request before training began"),
    ),
    (
        "did not stop in time",
        [end(0, -15, told=KILL, time=2), end(1, -9, told=KILL, time=1)],
        Circumstances(stop_seconds=50),
        (143, 1, "PodDeleted", "rank 1 did not stop within 50 s of the request and was killed"),
    ),
    (
        "all well despite a request to stop",
        [end(0, 0, told=TERM)],
        Circumstances(stop_seconds=50),
        (0, None, None, "every rank ended well"),
    ),
    (
        "the fork server was killed",
        [],
        Circumstances(fork_server_code=-9),
        (
            137,
            None,
            "UserExit",
            f"the process that ranks are forked from was killed by SIGKILL; {MEMORY_HINT}",
        ),
    ),
    (
        "a rank failed before the fork server did",
        [end(0, 1)],
        Circumstances(fork_server_code=-9),
        (1, 0, "UserExit", "rank 0 exited with code 1"),
    ),
]


@pytest.mark.parametrize(("ends", "known", "expected"), [row[1:] for row in ROWS], ids=[
    row[0] for row in ROWS
])  # fmt: skip
def test_summary(
    ends: list[RankEnd], known: Circumstances, expected: tuple[int, int | None, str | None, str]
) -> None:
    summary = compose(ends, known)
    assert (summary.exit_code, summary.rank, summary.cause, summary.message) == expected


def test_long_log_lines_leave_room_for_the_last_ones() -> None:
    tail = [f"{number} " + "x" * 16_000 for number in range(20)]
    summary = compose([end(0, 1, log_tail=tail)], Circumstances())
    kept = Summary.from_json(summary.to_json()).log_tail
    assert kept[-1].startswith("19 ")
    assert len(kept) > 5
