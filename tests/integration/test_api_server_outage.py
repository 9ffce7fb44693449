"""The API server goes away and comes back; the operator stays."""

import time
from collections.abc import Callable
from typing import Any

from cluster.process import spawn, wait_until
from integration.api_server import ApiServer, Namespace
from integration.conftest import Operator
from patience import WAIT_SECONDS

MakeJob = Callable[..., dict[str, Any]]
OUTAGE_SECONDS = 4


def replace_api_server(api: ApiServer) -> None:
    """Kill it, and start it again some seconds later."""
    index = next(i for i, d in enumerate(api.plane.daemons) if d.name == "kube-apiserver")
    dead = api.plane.daemons[index]
    dead.kill()
    time.sleep(OUTAGE_SECONDS)
    api.plane.daemons[index] = spawn(dead.name, dead.process.args, dead.log)
    wait_until(api.plane.is_ready, "API server ready", WAIT_SECONDS, api.plane.daemons)


def test_operator_goes_on_where_it_was(
    api: ApiServer, namespace: Namespace, operator: Operator, make_job: MakeJob
) -> None:
    namespace.create(make_job("before", nodes=1))
    namespace.wait_for_pods("before-master-0")
    namespace.start_pod("before-master-0")
    namespace.wait_for_phase("before", "Running")

    replace_api_server(api)
    began = time.monotonic()
    namespace.end_pod("before-master-0", 0)
    namespace.create(make_job("after", nodes=1))
    namespace.wait_for_pods("before-master-0", "after-master-0")
    namespace.wait_for_phase("before", "Succeeded")

    print(f"at work {time.monotonic() - began:.1f} s after the API server")
    assert operator.daemon is not None
    operator.daemon.require_alive()
    assert operator.get("/healthz").ok
