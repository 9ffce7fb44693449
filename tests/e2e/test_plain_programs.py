"""Programs that know nothing of Trainyard, over two pods, with no edit."""

from typing import Any

import pytest
from e2e.kube import Namespace

SELF_TEST = "accelerate.test_utils.scripts.test_script"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("accelerate-python", ["python3", "-m", SELF_TEST]),
        ("accelerate-torchrun", ["torchrun", "-m", SELF_TEST]),
    ],
)
def test_accelerates_own_self_test_ends_well(
    namespace: Namespace, make_job: Any, name: str, command: list[str]
) -> None:
    plain = {"recipe": None, "config": None, "checkpoint": None, "dataset": None, "storage": None}
    namespace.apply(make_job(name, command=command, **plain))
    status = namespace.wait_for_phase(name, "Succeeded", 240)
    assert status["attempt"] == 1
    logs = namespace.kubectl("logs", f"{name}-master-0")
    assert "Distributed environment: DistributedType.MULTI_CPU  Backend: gloo" in logs
    assert "Num processes: 2" in logs
    assert "Training yielded the same results on one CPU or distributed setup" in logs
