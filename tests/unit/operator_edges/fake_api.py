"""An API server in the test's own process: it answers what the test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from trainyard_operator.kube import Kube

Answer = tuple[int, dict[str, Any]]


@dataclass
class FakeApi:
    """`answer` gives the reply to (method, path and query, body); `watches` the lines of each
    watch in turn, after which it stays silent."""

    answer: Callable[[str, str, Any], Answer] = lambda *_: (404, refusal("NotFound", "not found"))
    watches: list[list[dict[str, Any]]] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, str(request.rel_url), body))
        if request.query.get("watch"):
            return await self._watch(request)
        code, data = self.answer(request.method, str(request.rel_url), body)
        return web.json_response(data, status=code)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.watches:
            await asyncio.Event().wait()
        for event in self.watches.pop(0):
            await response.write(json.dumps(event).encode() + b"\n")
        await response.write_eof()
        return response

    def paths(self, method: str) -> list[str]:
        """Of the requests so far."""
        return [path for used, path, _ in self.requests if used == method]


@asynccontextmanager
async def serve(api: FakeApi) -> AsyncIterator[Kube]:
    """A client of that server."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    configuration = Configuration(host=f"http://127.0.0.1:{port}")
    configuration.retries = None
    kube = Kube(ApiClient(configuration))
    try:
        yield kube
    finally:
        await kube.close()
        await runner.cleanup()


def refusal(reason: str, message: str) -> dict[str, Any]:
    """What the API server sends with an error."""
    return {"kind": "Status", "status": "Failure", "reason": reason, "message": message}


def listing(items: list[dict[str, Any]], version: str, following: str = "") -> dict[str, Any]:
    """A list, or a part of one."""
    return {"metadata": {"resourceVersion": version, "continue": following}, "items": items}


def make_pod(name: str = "nodules-master-0", version: str = "5", **fields: Any) -> dict[str, Any]:
    """A pod of the job `nodules` as the API server gives it."""
    labels = {
        "trainyard.dev/job": "nodules",
        "trainyard.dev/job-uid": "uid-1",
        "trainyard.dev/attempt": "1",
        "trainyard.dev/node-index": "0",
    }
    metadata = {
        "name": name,
        "namespace": "research",
        "uid": f"uid-{name}",
        "resourceVersion": version,
        "creationTimestamp": "2026-01-01T12:00:00Z",
        "labels": labels,
        "ownerReferences": [{"kind": "TrainingJob", "name": "nodules", "uid": "uid-1"}],
    }
    return {
        "metadata": metadata | fields.pop("metadata", {}),
        "status": {"phase": "Pending"} | fields,
    }


def make_raw_job(version: str = "1", uid: str = "uid-1", **status: Any) -> dict[str, Any]:
    """A job as the API server gives it."""
    metadata = {
        "name": "nodules",
        "namespace": "research",
        "uid": uid,
        "resourceVersion": version,
        "generation": 1,
    }
    spec = {"nodes": 1, "command": ["python", "train.py"], "image": "registry.example/mine:1"}
    return {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }
