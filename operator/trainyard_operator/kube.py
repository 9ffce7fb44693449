"""The Kubernetes API with plain dicts; the only module that knows the kubernetes package.

Its typed classes validate every object and take 105 MB; the two calls used here take half of that.

KubeError
|-- NotFound        404
|-- AlreadyExists   409 on create
|-- Conflict        409 on a write against an old resource version, or of another uid
|-- Expired         410: a watch has to list again
|-- Refused         400, 403, 422: the server's own sentence is `message`
`-- Unreachable     no answer, or 5xx and 429
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from trainyard_operator.contract import API_VERSION, JOB_PLURAL
from trainyard_operator.metrics import API_REQUESTS

REQUESTS_AT_ONCE = 32
TIMEOUT_SECONDS = 30
WATCH_SECONDS = 300
"""The server ends a watch after this; a connection that died in silence is noticed by then."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MERGE_PATCH = "application/merge-patch+json"

Object = dict[str, Any]


class KubeError(Exception):
    """The API server did not do what was asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class NotFound(KubeError):
    """There is no such object."""


class AlreadyExists(KubeError):
    """An object of that name is there."""


class Conflict(KubeError):
    """The object is not the one that was read."""


class Expired(KubeError):
    """The server no longer knows that resource version."""


class Refused(KubeError):
    """The request is invalid or forbidden: it will not do better next time."""


class Unreachable(KubeError):
    """No answer, or one that says to try again."""


@dataclass(frozen=True)
class Collection:
    """Where objects of one kind live."""

    api_version: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """The URL's path; without a namespace, that of all namespaces."""
        root = "api" if self.api_version == "v1" else "apis"
        scope = ["namespaces", namespace] if namespace else []
        parts = ["", root, self.api_version, *scope, self.plural, name, sub]
        return "/".join(part for part in parts if part is not None)


PODS = Collection("v1", "pods")
SERVICES = Collection("v1", "services")
EVENTS = Collection("v1", "events")
JOBS = Collection(API_VERSION, JOB_PLURAL)
COLLECTIONS = {"Pod": PODS, "Service": SERVICES}


@dataclass
class Kube:
    """A connection to one API server."""

    client: ApiClient
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))

    async def list_all(
        self, collection: Collection, namespace: str | None, selector: str
    ) -> tuple[list[Object], str]:
        """All objects with these labels, and the resource version to watch from."""
        query = [("labelSelector", selector), ("resourceVersion", "0")]
        found = await self._call("GET", collection.path(namespace), query=query)
        return found.get("items") or [], found["metadata"]["resourceVersion"]

    async def watch(
        self, collection: Collection, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[Object]:
        """Events {type, object} after a resource version, until the server ends the watch.

        Raises Expired if it is too old, Unreachable if the connection breaks.
        """
        query = [
            ("watch", "true"),
            ("labelSelector", selector),
            ("resourceVersion", version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(WATCH_SECONDS)),
        ]
        timeout = aiohttp.ClientTimeout(total=WATCH_SECONDS + TIMEOUT_SECONDS, sock_connect=10)
        response = await self._send("GET", collection.path(namespace), query, None, timeout)
        try:
            await _check(response, "GET")
            async for line in response.content:
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error(event["object"].get("code", 500), event["object"], "GET")
                yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unreachable(0, f"The watch of {collection.plural} broke: {error!r}") from error
        finally:
            response.close()

    async def get(self, collection: Collection, namespace: str, name: str) -> Object:
        """Raises NotFound."""
        return await self._call("GET", collection.path(namespace, name))

    async def create(self, collection: Collection, body: Object) -> Object:
        """Raises AlreadyExists or Refused."""
        path = collection.path(body["metadata"]["namespace"])
        return await self._call("POST", path, body=body)

    async def patch_status(
        self, collection: Collection, namespace: str, name: str, patch: Object
    ) -> Object:
        """Merge a patch into the status; with a resourceVersion in it, raises Conflict."""
        path = collection.path(namespace, name, "status")
        return await self._call("PATCH", path, body=patch)

    async def delete(
        self,
        collection: Collection,
        namespace: str,
        name: str,
        uid: str,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete this very object. Raises NotFound or Conflict if it is gone or another one."""
        body: Object = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        await self._call("DELETE", collection.path(namespace, name), body=body)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Object | None = None,
    ) -> Object:
        async with self.slots:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            response = await self._send(method, path, query or [], body, timeout)
            try:
                await _check(response, method)
                result: Object = await response.json()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Unreachable(0, f"{method} {path}: {error!r}") from error
            return result

    async def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        body: Object | None,
        bound: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": kind}
        request = await self.client.param_serialize(
            method,
            path,
            query_params=query,
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self.client.call_api(*request, _request_timeout=bound)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(0, f"{method} {path}: {error!r}") from error
        response: aiohttp.ClientResponse = answer.response
        return response


async def connect() -> Kube:
    """The API server of the pod's own service account, else of the kubeconfig."""
    configuration = Configuration()
    if _is_in_cluster():
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(client_configuration=configuration)
    configuration.retries = None
    return Kube(ApiClient(configuration))


def _is_in_cluster() -> bool:
    return "KUBECONFIG" not in os.environ and SERVICE_ACCOUNT.is_dir()


async def _check(response: aiohttp.ClientResponse, method: str) -> None:
    API_REQUESTS.labels(verb=method, code=response.status).inc()
    if response.status < 400:
        return
    text = await response.text()
    try:
        status: Object = json.loads(text)
    except ValueError:
        status = {"message": text[:500]}
    raise _error(response.status, status, method)


def _error(code: int, status: Object, method: str) -> KubeError:
    message = status.get("message") or f"HTTP {code}"
    kinds: dict[int, type[KubeError]] = {404: NotFound, 409: Conflict, 410: Expired}
    if code == 409 and method == "POST" and status.get("reason") == "AlreadyExists":
        return AlreadyExists(code, message)
    if code in {400, 401, 403, 422}:
        return Refused(code, message)
    return kinds.get(code, Unreachable)(code, message)
