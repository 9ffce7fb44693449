"""Ten thousand random histories, some five minutes of one core."""

import pytest
from core_histories import MACHINES, check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("machine", MACHINES)
def test_two_thousand_five_hundred_histories_of_each_kind_keep_the_promises(machine):
    check(machine, 2500)
