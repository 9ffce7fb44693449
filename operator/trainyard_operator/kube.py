"""The Kubernetes API with plain dicts; the only module that knows the kubernetes package.

Its typed classes validate every object and take 105 MB; the two calls used here take half of that.
"""

import asyncio
import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from trainyard_operator.contract import (
    API_VERSION,
    JOB_KIND,
    JOB_PLURAL,
    PYTORCHJOB_API,
    PYTORCHJOB_KIND,
)
from trainyard_operator.errors import (
    KubeError,
    LoginError,
    NotLeading,
    Unauthorized,
    Unreachable,
    error_of,
)
from trainyard_operator.metrics import API_REQUESTS
from trainyard_operator.sweep.names import SWEEP_PLURAL

REQUESTS_AT_ONCE = 32
TIMEOUT_SECONDS = 30
CONNECT_SECONDS = 10
WATCH_SECONDS = 300
"""The server ends a watch after this."""
SILENCE_SECONDS = 75
"""A server sends a bookmark each minute; a watch that hears nothing for longer is dead."""
LIST_CHUNK = 500
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
STRICT = ("fieldValidation", "Strict")
MERGE_PATCH = "application/merge-patch+json"

Object = dict[str, Any]


@dataclass(frozen=True)
class Collection:
    """Where objects of one kind live."""

    api_version: str
    plural: str

    @property
    def group(self) -> str:
        """The API group; empty for what is Kubernetes' own core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """The URL's path; without a namespace, that of all namespaces."""
        root = "api" if self.api_version == "v1" else "apis"
        scope = ["namespaces", namespace] if namespace else []
        parts = ["", root, self.api_version, *scope, self.plural, name, sub]
        return "/".join(part for part in parts if part is not None)


PODS = Collection("v1", "pods")
SERVICES = Collection("v1", "services")
EVENTS = Collection("v1", "events")
LEASES = Collection("coordination.k8s.io/v1", "leases")
JOBS = Collection(API_VERSION, JOB_PLURAL)
SWEEPS = Collection(API_VERSION, SWEEP_PLURAL)
PYTORCHJOBS = Collection(PYTORCHJOB_API, "pytorchjobs")
_CREATED = {
    "Pod": "pods",
    "Service": "services",
    "Deployment": "deployments",
    "PodGroup": "podgroups",
    PYTORCHJOB_KIND: "pytorchjobs",
    JOB_KIND: JOB_PLURAL,
}


def collection_of(manifest: Object) -> Collection:
    """Where an object that the operator makes is created."""
    return Collection(manifest["apiVersion"], _CREATED[manifest["kind"]])


@dataclass
class Kube:
    """A connection to one API server."""

    client: ApiClient
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))
    seconds_to_act: Callable[[], float] = lambda: math.inf
    """How much longer anything may be changed; a request that takes longer is given up."""
    clock: Callable[[], float] = time.monotonic
    trouble_at: float = -math.inf
    """When the API server last did not answer."""

    async def list_chunks(
        self, collection: Collection, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[tuple[list[Object], str]]:
        """All objects with these labels, some at a time, with the version to watch from.

        Never from a cache: one that lags would show a gang without its newest pods.
        Raises Expired if the list took so long that its rest is gone.
        """
        query = [("limit", str(LIST_CHUNK))]
        query += [("labelSelector", selector)] if selector else []
        following = ""
        while True:
            rest = [("continue", following)] if following else []
            found = await self._call("GET", collection.path(namespace), query=query + rest)
            metadata = found["metadata"]
            yield found.get("items") or [], metadata["resourceVersion"]
            following = metadata.get("continue", "")
            if not following:
                return

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
        bound = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
        )
        response = await self._send("GET", collection.path(namespace), query, None, bound)
        try:
            await self._check(response, "GET")
            async for line in response.content:
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error_of(500, event["object"])
                yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable("GET", f"the watch of {collection.plural}", error) from error
        finally:
            response.close()

    async def get(self, collection: Collection, namespace: str, name: str) -> Object:
        """Raises NotFound."""
        return await self._call("GET", collection.path(namespace, name))

    async def create(
        self, collection: Collection, body: Object, *, is_read: bool = False
    ) -> Object:
        """The stored object, if it is read. Raises AlreadyExists, or Refused, which an unknown
        field is too."""
        path, query = collection.path(body["metadata"]["namespace"]), [STRICT]
        return await self._call("POST", path, query=query, body=body, is_read=is_read)

    async def replace(self, collection: Collection, body: Object) -> Object:
        """Raises Conflict unless its resourceVersion is the stored one's."""
        metadata = body["metadata"]
        path = collection.path(metadata["namespace"], metadata["name"])
        return await self._call("PUT", path, body=body)

    async def patch(
        self, collection: Collection, namespace: str, name: str, patch: Object
    ) -> Object:
        """Merge a patch into the object; with a uid in it, raises Conflict for a namesake."""
        return await self._call("PATCH", collection.path(namespace, name), body=patch)

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
        await self._call("DELETE", collection.path(namespace, name), body=body, is_read=False)

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
        is_read: bool = True,
    ) -> Object:
        async with self.slots:
            left = math.inf if method == "GET" else self.seconds_to_act()
            if left <= 0:
                raise NotLeading(0, f"{method} {path}: not sent, since this replica does not lead")
            seconds = min(left, TIMEOUT_SECONDS)
            bound = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
            response = await self._send(method, path, query or [], body, bound)
            try:
                await self._check(response, method)
                text = await response.read()
                result: Object = json.loads(text) if is_read else {}
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise self._unreachable(method, path, error) from error
            return result

    async def _check(self, response: aiohttp.ClientResponse, method: str) -> None:
        API_REQUESTS.labels(verb=method, code=response.status).inc()
        if response.status < 400:
            return
        found = _error_of(response.status, _status_in(await response.text()))
        if response.status == 401 and not _is_in_cluster():
            await self._log_in_again(found)
        raise found

    async def _log_in_again(self, refusal: KubeError) -> None:
        """A kubeconfig's token may be short-lived; that of a pod is read anew each minute.

        Raises Unauthorized."""
        try:
            await config.load_kube_config(client_configuration=self.client.configuration)
        except Exception as error:  # A kubeconfig that is just being written may hold anything.
            reason = str(error) or type(error).__name__
            message = f"{refusal.message}; the kubeconfig cannot be read again: {reason}"
            raise Unauthorized(refusal.status, message) from error

    def _unreachable(self, method: str, what: str, error: Exception) -> Unreachable:
        API_REQUESTS.labels(verb=method, code="none").inc()
        self.trouble_at = self.clock()
        return Unreachable(0, f"{method} {what}: {str(error) or type(error).__name__}")

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
        headers |= self.client.default_headers
        login = ("BearerToken",)
        # Not `param_serialize`, which copies each body and takes as long as all else here.
        await self.client.update_params_for_auth(headers, query, login, path, method, body)
        url = self.client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = await self.client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=bound
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(method, path, error) from error
        response: aiohttp.ClientResponse = answer.response
        return response


def proxy_of(server: str) -> str | None:
    """What HTTPS_PROXY and NO_PROXY say about it."""
    address = urlsplit(server)
    is_direct = address.hostname is None or proxy_bypass(address.hostname)
    return None if is_direct else getproxies().get(address.scheme)


def own_namespace() -> str:
    """The namespace of the pod that this runs in; empty outside of a cluster."""
    path = SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if _is_in_cluster() and path.is_file() else ""


@dataclass(frozen=True, kw_only=True)
class Login:
    """Where the API server is and how to log in there, for who does not use `Kube`."""

    server: str
    ca_path: str | None
    insecure: bool
    certificate_path: str | None
    private_key_path: str | None
    authorization: str | None
    """Scheme and token."""


async def log_in() -> Login:
    """Read the credentials as they are now."""
    found = await _load_configuration()
    return Login(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        insecure=not found.verify_ssl,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
        authorization=found.api_key.get("BearerToken"),
    )


async def connect() -> Kube:
    """The API server of the pod's own service account, else of the kubeconfig.

    Raises LoginError if there is neither.
    """
    configuration = await _load_configuration()
    configuration.retries = None
    # aiohttp would ask a thread about proxies and passwords at each request.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or proxy_of(configuration.host)
    return Kube(ApiClient(configuration))


async def _load_configuration() -> Configuration:
    configuration = Configuration()
    try:
        if _is_in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise LoginError(f"no service account and no kubeconfig: {error}") from error
    return configuration


def _is_in_cluster() -> bool:
    return "KUBECONFIG" not in os.environ and SERVICE_ACCOUNT.is_dir()


def _status_in(text: str) -> Object:
    """The Status in an answer; what a proxy says instead is taken for its message."""
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    return status if isinstance(status, dict) else {"message": text[:500]}


def _error_of(code: int, status: Object) -> KubeError:
    code = status.get("code") or code
    return error_of(code, status.get("reason") or "", status.get("message") or "")
