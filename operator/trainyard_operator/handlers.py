"""What kopf calls; the only module that knows kopf. Everything is delegated."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import kopf

from trainyard_operator.contract import GROUP, JOB_PLURAL, VERSION
from trainyard_operator.kube import CONNECT_SECONDS, LIST_CHUNK, WATCH_SECONDS, log_in
from trainyard_operator.sweep.names import SWEEP_PLURAL

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 3.0)
"""Waits of kopf's watch while the API server is away; after the last one it lists again."""

OnObject = Callable[[str, dict[str, Any]], None]
"""Called with the type of the event (empty for a listing, ADDED, MODIFIED, DELETED) and the raw
object."""


class _NoRecord(kopf.DiffBaseStorage, kopf.ProgressStorage):
    """kopf compares nothing and keeps no progress for us; by default it copies each object thrice
    to find out what it could compare."""

    def build(self, **_: Any) -> Any:
        """Nothing is compared."""
        return {}

    def clear(self, *, essence: Any) -> Any:
        """Nothing is to be left out."""
        return essence

    def fetch(self, **_: Any) -> None:
        """Nothing was stored."""

    def store(self, **_: Any) -> None:
        """Nothing is stored."""

    def purge(self, **_: Any) -> None:
        """There is nothing to delete."""

    def touch(self, **_: Any) -> None:
        """No object is written."""


def build_registry(on_job: OnObject, on_sweep: OnObject) -> kopf.OperatorRegistry:
    """The handlers of one operator. None of them writes to the object, and none needs a
    finalizer: an absent operator must not keep a job from being deleted."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = _NoRecord()
        settings.persistence.progress_storage = _NoRecord()
        settings.watching.server_timeout = WATCH_SECONDS
        settings.watching.chunk_size = LIST_CHUNK
        settings.networking.connect_timeout = CONNECT_SECONDS
        settings.networking.error_backoffs = RETRY_SECONDS

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        found = await log_in()
        scheme, _space, token = (found.authorization or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            insecure=found.insecure,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            scheme=scheme or None,
            token=token or None,
        )

    @kopf.on.event(GROUP, VERSION, JOB_PLURAL, registry=registry)
    async def job_changed(event: kopf.RawEvent, **_: Any) -> None:
        on_job(event["type"] or "", dict(event["object"]))

    @kopf.on.event(GROUP, VERSION, SWEEP_PLURAL, registry=registry)
    async def sweep_changed(event: kopf.RawEvent, **_: Any) -> None:
        on_sweep(event["type"] or "", dict(event["object"]))

    return registry


async def watch_jobs(
    registry: kopf.OperatorRegistry,
    scopes: tuple[str | None, ...],
    ready: asyncio.Event,
    take_signals: Callable[[], None],
) -> None:
    """Watch until cancelled; `ready` is set once it does.

    take_signals: called when kopf has made the process's signals its own. It would spend seconds
    on waiting for loops that it does not know.
    """
    logging.getLogger("kopf").setLevel(logging.WARNING)
    namespaces = [scope for scope in scopes if scope]
    ours = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
        # kopf would ask for the user's name, which a container's bare uid does not have.
        identity=socket.gethostname(),  # type: ignore[arg-type]
    )
    take_signals()
    await kopf.run_tasks(tasks, ignored=ours)
