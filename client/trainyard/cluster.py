"""The cluster: the one module of the client that imports kubernetes.

Bodies are dicts through ApiClient.call_api: kubernetes' typed classes validate each object anew.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from trainyard.errors import ClientError, NotAllowed, NotFound, Rejected, Unreachable, UsageError
from trainyard_operator.contract import CONTAINER, GROUP, JOB_PLURAL, VERSION
from trainyard_operator.sweep.names import SWEEP_PLURAL

FIELD_MANAGER = "trainyard"
TIMEOUT_SECONDS = 15.0
_JOBS = f"/apis/{GROUP}/{VERSION}"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def is_configured(context: str | None = None) -> bool:
    """Whether there is a kubeconfig, or a pod's own identity."""
    if context or "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    return _has_kubeconfig()


class Cluster:
    """One API server and a namespace."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        if not is_configured(context):
            raise Unreachable(
                "no cluster is configured: there is no kubeconfig", "kubectl config get-contexts"
            )
        from kubernetes import client

        configuration = client.Configuration()
        self.context = context
        own_namespace = _configure(configuration, context)
        self.namespace = namespace or own_namespace
        configuration.retries = False
        self._client = client.ApiClient(configuration)
        self.host: str = configuration.host

    def get_job(self, name: str) -> dict[str, Any]:
        """One TrainingJob. Raises NotFound."""
        try:
            return self._json("GET", self._path(name))
        except NotFound as error:
            if "TrainingJob" in error.message:
                raise
            raise NotFound(
                f"there is no job '{name}' in namespace '{self.namespace}'", "trainyard get -A"
            ) from None

    def list_jobs(
        self, *, everywhere: bool = False, selector: str | None = None
    ) -> list[dict[str, Any]]:
        """TrainingJobs of the namespace, or of all."""
        path = f"{_JOBS}/{JOB_PLURAL}" if everywhere else self._path()
        items: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 500}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = self._json("GET", path, query)
            items += page.get("items") or []
            query["continue"] = (page.get("metadata") or {}).get("continue")
            if not query["continue"]:
                return items

    def get_sweep(self, name: str) -> dict[str, Any]:
        """One TrainingSweep. Raises NotFound."""
        try:
            found: dict[str, Any] = self._json("GET", self._path(name, SWEEP_PLURAL))
        except NotFound as error:
            if "TrainingJob" in error.message:
                raise
            raise NotFound(
                f"there is no sweep '{name}' in namespace '{self.namespace}'",
                "trainyard get sweeps -A",
            ) from None
        return found

    def list_sweeps(self, *, everywhere: bool = False) -> list[dict[str, Any]]:
        """TrainingSweeps of the namespace, or of all."""
        path = f"{_JOBS}/{SWEEP_PLURAL}" if everywhere else self._path(plural=SWEEP_PLURAL)
        items: list[dict[str, Any]] = self._json("GET", path)["items"]
        return items

    def apply_job(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create the job, or bring it in line with `manifest` (server-side apply)."""
        return self._apply(JOB_PLURAL, manifest, dry_run)

    def apply_sweep(self, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """The same of a sweep."""
        return self._apply(SWEEP_PLURAL, manifest, dry_run)

    def _apply(self, plural: str, manifest: dict[str, Any], dry_run: bool) -> dict[str, Any]:
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        path = self._path(manifest["metadata"]["name"], plural)
        found: dict[str, Any] = self._json(
            "PATCH", path, query, manifest, "application/apply-patch+yaml"
        )
        return found

    def patch_job(self, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Merge `patch` into the job."""
        return self._patch(self._path(name), patch)

    def patch_sweep(self, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Merge `patch` into the sweep."""
        return self._patch(self._path(name, SWEEP_PLURAL), patch)

    def _patch(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        query = {"fieldManager": FIELD_MANAGER}
        found: dict[str, Any] = self._json(
            "PATCH", path, query, patch, "application/merge-patch+json"
        )
        return found

    def delete_job(self, name: str) -> None:
        """Delete the job; its pods follow."""
        self._json("DELETE", self._path(name), {"propagationPolicy": "Background"})

    def delete_sweep(self, name: str) -> None:
        """Delete the sweep; its trials follow."""
        path = self._path(name, SWEEP_PLURAL)
        self._json("DELETE", path, {"propagationPolicy": "Background"})

    def watch_job(self, name: str, version: str, seconds: int = 30) -> Iterator[dict[str, Any]]:
        """Watch events of one job from a resource version on, for some seconds."""
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": seconds,
        }
        for line in self._lines(self._path(), query, seconds + TIMEOUT_SECONDS):
            yield json.loads(line)

    def list_pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods by label."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        items: list[dict[str, Any]] = self._json("GET", path, {"labelSelector": selector})["items"]
        return items

    def pod_log(self, pod: str, *, follow: bool = False, since: str | None = None) -> Iterator[str]:
        """Lines of the training container, each behind its time. since: an RFC 3339 time."""
        query: dict[str, Any] = {"container": CONTAINER, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if since:
            query["sinceTime"] = since
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        for line in self._lines(path, query, None if follow else 60.0):
            yield line.decode(errors="replace")

    def secret(self, name: str) -> dict[str, str]:
        """The decoded values of a Secret."""
        import base64

        body = self._json("GET", f"/api/v1/namespaces/{self.namespace}/secrets/{name}")
        values = (body.get("data") or {}).items()
        return {key: base64.b64decode(value).decode() for key, value in values}

    def _path(self, name: str | None = None, plural: str = JOB_PLURAL) -> str:
        path = f"{_JOBS}/namespaces/{self.namespace}/{plural}"
        return f"{path}/{name}" if name else path

    def _json(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        response = self._call(method, path, query, body, content_type, TIMEOUT_SECONDS)
        data = response.read()
        if response.status >= 400:
            raise _rejection(response.status, data, method)
        return _without_bookkeeping(json.loads(data))

    def _lines(self, path: str, query: dict[str, Any], seconds: float | None) -> Iterator[bytes]:
        """The lines of a streamed answer, as they come."""
        from urllib3.exceptions import HTTPError

        response = self._call("GET", path, query, None, "application/json", seconds)
        if response.status >= 400:
            raise _rejection(response.status, response.read(), "GET")
        rest = b""
        try:
            for chunk in response.response.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except HTTPError:
            return  # The connection was cut: the caller goes on from where it is.
        finally:
            response.response.close()
        if rest:
            yield rest

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None,
        body: Any,
        content_type: str,
        seconds: float | None,
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": content_type}
        given = {key: value for key, value in (query or {}).items() if value is not None}
        try:
            _, url, headers, body, _ = self._client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            url = f"{url}?{urlencode(given)}" if given else url
            timeout = (TIMEOUT_SECONDS, seconds) if seconds else None
            return self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        except (HTTPError, ApiException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise Unreachable(
                f"the cluster at {self.host} does not answer ({_short(reason)})",
                "kubectl cluster-info",
            ) from error


def _configure(configuration: Any, context: str | None) -> str:
    """Fill in address and credentials; returns the context's namespace."""
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    paths = _kubeconfig_paths()
    try:
        if not _has_kubeconfig() and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
            return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        contexts, active = config.list_kube_config_contexts(config_file=paths)
        config.load_kube_config(
            config_file=paths, context=context, client_configuration=configuration
        )
    except ConfigException as error:
        raise UsageError(
            f"the kubeconfig cannot be used: {error}", "kubectl config view"
        ) from error
    chosen = next((one for one in contexts if one["name"] == context), active)
    namespace: str = chosen["context"].get("namespace") or "default"
    return namespace


def _kubeconfig_paths() -> str:
    """As kubectl takes them: several, joined as in PATH."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def _has_kubeconfig() -> bool:
    return any(Path(path).is_file() for path in _kubeconfig_paths().split(os.pathsep) if path)


def _without_bookkeeping(body: Any) -> Any:
    """The object, or the list's, without the record of who wrote which field."""
    for item in [body, *(body.get("items") or [])]:
        (item.get("metadata") or {}).pop("managedFields", None)
    return body


def _rejection(status: int, data: bytes, method: str) -> ClientError:
    """The API server's Status as one of ours."""
    try:
        message = json.loads(data).get("message") or ""
    except (ValueError, AttributeError):
        message = data.decode(errors="replace")[:200]
    if status in {401, 403}:
        verb = {"GET": "get", "DELETE": "delete"}.get(method, "update")
        return NotAllowed(
            f"the cluster refuses: {message}", f"kubectl auth can-i {verb} {JOB_PLURAL}.{GROUP}"
        )
    if status == 404:
        if "page not found" in message or "could not find" in message:
            return NotFound(
                "this cluster knows no TrainingJob: Trainyard is not installed there",
                f"kubectl get crd {JOB_PLURAL}.{GROUP}",
            )
        return NotFound(message)
    if status in {400, 409, 422}:
        return Rejected(message)
    return Unreachable(f"the cluster answers with an error ({status}): {message}")


def _short(reason: object) -> str:
    """The last clause of a nested connection error."""
    text = str(reason)
    return text.rpartition(": ")[2].strip("<>()'\" ") or type(reason).__name__
