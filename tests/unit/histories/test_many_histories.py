"""Twelve thousand random histories, some six minutes of one core."""

import pytest
from core_histories import MACHINES, check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("machine", MACHINES)
def test_four_thousand_histories_of_each_kind_keep_the_promises(machine):
    check(machine, 4000)
