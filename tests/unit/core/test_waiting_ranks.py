"""Nodes that stood still together: the one whose rank did not wait for others is the culprit."""

from core_objects import at, exited, make_job, make_pod

from trainyard_operator.contract import Cause, Summary
from trainyard_operator.verdict import SETTLE, first_failure, settles_at

JOB = make_job(nodes=2)


def stalled(rank: int, *, waited: bool, seconds: float):
    summary = Summary(
        exit_code=76,
        message=f"rank {rank}: no progress for 600 s",
        cause=Cause.STALLED,
        rank=rank,
        waited=waited,
    )
    return make_pod(JOB, rank, **exited(76, summary.to_json(), seconds=seconds))


WAITING = stalled(0, waited=True, seconds=1)
HANGING = stalled(1, waited=False, seconds=2)


def test_rank_that_waited_is_not_the_culprit_though_it_ended_first():
    failure = first_failure(JOB, 1, (WAITING, HANGING), formed=True)
    assert failure is not None
    assert (failure.rank, failure.cause) == (1, Cause.STALLED)


def test_a_rank_that_waited_is_not_believed_before_its_peer_has_spoken():
    pods = (WAITING, make_pod(JOB, 1))
    failure = first_failure(JOB, 1, pods, formed=True)
    assert failure is not None
    assert settles_at(failure, pods) == at(1) + SETTLE


def test_where_every_rank_waited_the_first_is_named():
    failure = first_failure(JOB, 1, (WAITING, stalled(1, waited=True, seconds=2)), formed=True)
    assert failure is not None
    assert failure.rank == 0
