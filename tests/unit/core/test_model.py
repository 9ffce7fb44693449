"""A few histories of each kind of job; tests/unit/histories has ten thousand."""

import pytest
from core_histories import MACHINES, check


@pytest.mark.parametrize("machine", MACHINES)
def test_any_history_keeps_the_promises(machine):
    check(machine, 25)
