"""From how a program ended to one sentence, one exit code and one cause."""

import pytest

from trainyard_operator.contract import Cause, Summary
from trainyard_trainer.program_summary import End, compose

TAIL = ["step 1", "ValueError: no luck"]


@pytest.mark.parametrize(
    ("end", "code", "message", "cause"),
    [
        (End(exit_code=0), 0, "rank 1 ended well", None),
        (End(exit_code=3), 3, "rank 1 exited with code 3: ValueError: no luck", None),
        (
            End(exit_code=76),
            76,
            "rank 1 exited with code 76: ValueError: no luck",
            Cause.PEER_LOST,
        ),
        (End(exit_code=-11), 139, "rank 1 was killed by SIGSEGV", None),
        (
            End(exit_code=-9, out_of_memory=True),
            137,
            "rank 1 exceeded its memory limit; raise resources.limits.memory",
            Cause.OUT_OF_MEMORY,
        ),
        (End(exit_code=1, stopped=True), 75, "stopped on request", Cause.CHECKPOINTED),
        (
            End(exit_code=-9, stopped=True, killed=True),
            75,
            "stopped on request; rank 1 did not stop in time and was killed",
            Cause.CHECKPOINTED,
        ),
        (End(stopped=True), 75, "stopped on request before it began", Cause.CHECKPOINTED),
        (
            End(exit_code=-9, killed=True, stalled_seconds=600),
            1,
            "rank 1 reported no step for 600 s",
            Cause.STALLED,
        ),
    ],
)
def test_each_end_has_its_sentence(end: End, code: int, message: str, cause: Cause | None):
    summary = compose(end, ["train"], 1, TAIL)
    is_failure = code not in (0, 75)
    assert summary == Summary(
        exit_code=code,
        message=message,
        cause=cause,
        rank=1 if is_failure else None,
        log_tail=TAIL if is_failure else [],
    )


def test_several_ranks_under_torchrun_are_one_program():
    assert compose(End(exit_code=1), ["torchrun"], None, []) == Summary(
        exit_code=1, message="the program exited with code 1"
    )


@pytest.mark.parametrize(
    ("end", "is_clean"),
    [
        (End(exit_code=0), True),
        (End(exit_code=1), False),
        (End(exit_code=1, stopped=True), True),
        (End(exit_code=-9, stopped=True, killed=True), False),
    ],
)
def test_what_a_program_left_is_meant_only_where_it_came_to_its_own_end(end: End, is_clean: bool):
    assert end.is_clean is is_clean
