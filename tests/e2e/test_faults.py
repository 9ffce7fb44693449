"""A few of `make chaos-cluster`'s faults, one after the other, while one job trains."""

from collections.abc import Iterator

import pytest
from chaos.nodes.faults import FAULTS
from chaos.nodes.trial import STEPS_BETWEEN, Court
from e2e.conftest import Cluster

PICK = ("rank-killed", "pod-deleted-by-force", "operator-killed", "made-again-under-its-name")
EPOCHS = 150


@pytest.fixture
def court(cluster: Cluster, few_digits: str) -> Iterator[Court]:
    if not cluster.is_own:
        pytest.skip("it kills processes of the test cluster's nodes")
    court = Court(few_digits, epochs=EPOCHS)
    yield court
    court.close()


def test_job_ends_to_the_bit_as_if_nothing_had_happened(court: Court) -> None:
    court.leave_alone()
    court.arena.submit("picked")
    for name in PICK:
        assert court.arena.wait_until_trained(STEPS_BETWEEN, share=0.9), "the job is too short"
        cost = court.blow(FAULTS[name])
        print(f"{name}: {cost.seconds:.1f} s to the next step, {cost.repeated} steps again")
        assert not cost.lost
    court.finish()
    causes = frozenset().union(*(FAULTS[name].causes for name in PICK))
    assert court.differences(causes) == []
