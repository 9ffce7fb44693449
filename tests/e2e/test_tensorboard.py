"""`tensorBoard.serve`: the curves of a job, fetched over its Service."""

import json
import time
from typing import Any

from e2e.kube import Namespace
from patience import HANG_SECONDS


def runs_of(namespace: Namespace, service: str) -> list[str]:
    """What TensorBoard's own page asks for, through the API server's proxy of the Service."""
    path = f"/api/v1/namespaces/{namespace.name}/services/{service}:http/proxy/data/runs"
    answer = namespace.kubectl("get", "--raw", path, check=False)
    return list(json.loads(answer)) if answer.startswith("[") else []


def test_the_service_shows_what_the_job_wrote(namespace: Namespace, make_short_job: Any) -> None:
    namespace.apply(make_short_job("shown", nodes=1, tensorBoard={"serve": True}))
    status = namespace.wait_for_phase("shown", "Succeeded")
    assert status["tensorBoard"]["service"] == "shown-tensorboard"
    deadline = time.monotonic() + HANG_SECONDS
    while not (runs := runs_of(namespace, "shown-tensorboard")):
        pods = namespace.kubectl("logs", "deploy/shown-tensorboard", "--tail=20", check=False)
        assert time.monotonic() < deadline, pods
        time.sleep(1)
    assert runs == ["."]
    namespace.kubectl("delete", "tj", "shown")
    namespace.kubectl("wait", "--for=delete", "deploy/shown-tensorboard", "--timeout=300s")
