"""For all tests: a property is not false because the machine is busy; and who runs which.

What Hypothesis draws is the same each time, so that what a change breaks is that change's. With
TRAINYARD_EXAMPLES set, histories are others each time, and so many of them.

What takes longest comes first, so that at the end no worker has much left while another has none.
"""

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile(
    "trainyard", deadline=None, derandomize="TRAINYARD_EXAMPLES" not in os.environ
)
settings.load_profile("trainyard")

LONGEST = (
    "tests/unit/histories/test_many_histories.py",
    "tests/unit/recipes/test_standard.py",
)
"""Their tests share nothing but what a parameter of the module has set up: with `--dist loadfile`
each parameter goes to a worker of its own, where the tests of other files stay together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        path = item.nodeid.partition("::")[0]
        return LONGEST.index(path) if path in LONGEST else len(LONGEST)

    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


class Scheduling(LoadScopeScheduling):
    """Of `--dist loadfile`, in the order of the collection."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        path, _, name = nodeid.partition("::")
        _, _, parameter = name.partition("[")
        return f"{path}[{parameter}" if path in LONGEST else path
