"""What kopf calls; the only module that knows kopf. Everything is delegated."""

import logging
import os
from collections.abc import Callable
from typing import Any

import kopf

from trainyard_operator.contract import GROUP, JOB_PLURAL, VERSION

OnJob = Callable[[str, dict[str, Any]], None]
"""Called with the type of the event (None for the first listing, ADDED, MODIFIED, DELETED) and the
raw object."""


def build_registry(on_job: OnJob) -> kopf.OperatorRegistry:
    """The handlers of one operator. None of them writes to the object, and none needs a
    finalizer: an absent operator must not keep a job from being deleted."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.watching.server_timeout = 300

    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        if "KUBECONFIG" in os.environ:
            return kopf.login_with_kubeconfig(**arguments)
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(
            **arguments
        )

    @kopf.on.event(GROUP, VERSION, JOB_PLURAL, registry=registry)
    def job_changed(event: kopf.RawEvent, **_: Any) -> None:
        on_job(event["type"] or "", dict(event["object"]))

    return registry


async def watch_jobs(registry: kopf.OperatorRegistry, namespace: str | None) -> None:
    """Watch until cancelled."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    await kopf.operator(
        registry=registry,
        standalone=True,
        clusterwide=namespace is None,
        namespaces=[namespace] if namespace else [],
    )
