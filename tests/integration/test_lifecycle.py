"""A job from apply to its end, with kubelets played by the test."""

import time
from collections.abc import Callable
from typing import Any

from integration.api_server import Namespace
from integration.conftest import Operator

MakeJob = Callable[..., dict[str, Any]]


def test_apply_creates_a_gang_and_its_service_within_a_second(
    namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job("warm-up", nodes=1))
    namespace.wait_for_pods("warm-up-master-0")
    began = time.monotonic()
    namespace.create(make_job())
    namespace.wait(lambda: len(namespace.pods()) == 3, "three pods")
    seconds = time.monotonic() - began
    print(f"from apply to two pods: {seconds * 1000:.0f} ms")
    assert seconds < 1
    assert set(namespace.services()) == {"nodules", "warm-up"}
    assert namespace.status("nodules")["phase"] == "Starting"
    assert namespace.events("nodules") == [
        ("Normal", "Starting", "Starting attempt 1: 2 nodes, 2 ranks.")
    ]
