"""An API server as a test sees it: plain requests, kubelets played by hand, waits that explain."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
import yaml
from cluster.controlplane import ControlPlane
from patience import WAIT_SECONDS

JOBS = "/apis/trainyard.dev/v1alpha1"
CORE = "/api/v1"
POLL_SECONDS = 0.02
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


def plural_of(kind: str) -> str:
    """As in a path."""
    word = kind.lower()
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


@dataclass
class ApiServer:
    """The administrator's view."""

    plane: ControlPlane

    def __post_init__(self) -> None:
        authority = self.plane.authority
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(authority.certificate("ca"))
        self.session.cert = (str(authority.certificate("admin")), str(authority.key("admin")))

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.session.request(
            method, f"{self.plane.server}{path}", json=body, timeout=WAIT_SECONDS, **options
        )

    def must(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The answer. Raises AssertionError with the server's sentence."""
        answer = self.send(method, path, body, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def send_as(self, token: str, method: str, path: str) -> requests.Response:
        """The same, as the owner of a token."""
        headers = {"Authorization": f"Bearer {token}"}
        with requests.Session() as session:
            session.trust_env = False
            url = f"{self.plane.server}{path}"
            verify = str(self.plane.authority.certificate("ca"))
            return session.request(
                method, url, headers=headers, verify=verify, timeout=WAIT_SECONDS
            )

    def apply_text(self, text: str) -> None:
        """Server-side apply of every object of a YAML file."""
        for item in yaml.safe_load_all(text):
            if item:
                self._apply(item)

    def _apply(self, item: dict[str, Any]) -> None:
        version, metadata = item["apiVersion"], item["metadata"]
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        scope = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        path = f"{root}{scope}/{plural_of(item['kind'])}/{metadata['name']}"
        self.must(
            "PATCH",
            path,
            item,
            params={"fieldManager": "test", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def token(self, namespace: str, account: str) -> str:
        """A token of a ServiceAccount."""
        path = f"{CORE}/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"spec": {"expirationSeconds": 3600}}
        return self.must("POST", path, body)["status"]["token"]


@dataclass
class Namespace:
    """One namespace of it."""

    api: ApiServer
    name: str
    kind: str = "trainingjobs"
    """Of what `create`, `status` and the others are about."""

    @property
    def jobs(self) -> str:
        return f"{JOBS}/namespaces/{self.name}/{self.kind}"

    def of(self, kind: str) -> "Namespace":
        """The same about objects of another kind."""
        return Namespace(self.api, self.name, kind)

    @property
    def core(self) -> str:
        return f"{CORE}/namespaces/{self.name}"

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job as stored; unknown keys are refused, as by `kubectl apply`."""
        return self.api.must("POST", self.jobs, job, params={"fieldValidation": "Strict"})

    def refusal(self, job: dict[str, Any]) -> str:
        """The sentence with which the API server refuses a job."""
        answer = self.api.send("POST", self.jobs, job, params={"fieldValidation": "Strict"})
        assert not answer.ok, f"accepted: {answer.text}"
        return answer.json()["message"]

    def job(self, name: str) -> dict[str, Any]:
        return self.api.must("GET", f"{self.jobs}/{name}")

    def exists(self, name: str) -> bool:
        return self.api.send("GET", f"{self.jobs}/{name}").ok

    def touch(self, name: str) -> None:
        """Change the job in a way that means nothing, so that the operator looks at it."""
        note = {"metadata": {"annotations": {"touched": str(time.monotonic_ns())}}}
        self.api.must("PATCH", f"{self.jobs}/{name}", note, headers=MERGE_PATCH)

    def status(self, name: str) -> dict[str, Any]:
        return self.job(name).get("status") or {}

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        conditions = self.status(name).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def edit(self, name: str, spec: dict[str, Any]) -> None:
        """Merge into the spec."""
        self.api.must("PATCH", f"{self.jobs}/{name}", {"spec": spec}, headers=MERGE_PATCH)

    def delete(self, name: str) -> None:
        self.api.must("DELETE", f"{self.jobs}/{name}")

    def pods(self) -> dict[str, dict[str, Any]]:
        """By name."""
        found = self.api.must("GET", f"{self.core}/pods")
        return {item["metadata"]["name"]: item for item in found["items"]}

    def services(self) -> dict[str, dict[str, Any]]:
        """By name."""
        found = self.api.must("GET", f"{self.core}/services")
        return {item["metadata"]["name"]: item for item in found["items"]}

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """(type, reason, message) of a job's events, oldest first."""
        found = self.api.must("GET", f"{self.core}/events")["items"]
        own = [e for e in found if e["involvedObject"]["name"] == name]
        own.sort(key=lambda e: int(e["metadata"]["resourceVersion"]))
        return [(e["type"], e["reason"], e["message"]) for e in own]

    def start_pod(self, name: str, node: str = "node-1", address: str = "10.9.9.9") -> None:
        """What a scheduler and a kubelet do."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
        self.api.must("POST", f"{self.core}/pods/{name}/binding", binding | {"target": target})
        self.set_pod(name, phase="Running", address=address, state={"running": {}})

    def end_pod(self, name: str, code: int, message: str = "") -> None:
        """What a kubelet does when a program ends."""
        phase = "Failed" if code else "Succeeded"
        ended = {
            "exitCode": code,
            "reason": "Error" if code else "Completed",
            "message": message,
            "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self.set_pod(name, phase=phase, state={"terminated": ended})

    def set_pod(
        self, name: str, *, phase: str, state: dict[str, Any], address: str | None = None
    ) -> None:
        container = {
            "name": "pytorch",
            "image": "x",
            "imageID": "x",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }
        status: dict[str, Any] = {"phase": phase, "containerStatuses": [container]}
        if address:
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        path = f"{self.core}/pods/{name}/status"
        self.api.must("PATCH", path, {"status": status}, headers=MERGE_PATCH)

    def delete_pod(self, name: str) -> None:
        """By force, since no kubelet would end it."""
        self.api.must("DELETE", f"{self.core}/pods/{name}", {"gracePeriodSeconds": 0})

    def finish_deletion(self, pod: dict[str, Any]) -> None:
        """What a kubelet does at a pod's end; one that is gone or replaced is left alone."""
        metadata = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        answer = self.api.send("DELETE", f"{self.core}/pods/{metadata['name']}", options)
        assert answer.status_code in {200, 404, 409}, answer.text

    def wait(self, question: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
        """Poll until it answers; returns the answer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := question():
                return answer
            time.sleep(POLL_SECONDS)
        found = self.api.must("GET", self.jobs)["items"]
        states = {item["metadata"]["name"]: item.get("status") for item in found}
        raise AssertionError(f"not {what}; jobs: {states}; pods: {list(self.pods())}")

    def wait_for_phase(
        self, name: str, phase: str, seconds: float = WAIT_SECONDS
    ) -> dict[str, Any]:
        """Returns the status."""
        self.wait(lambda: self.status(name).get("phase") == phase, phase, seconds)
        return self.status(name)

    def wait_for_pods(
        self, *names: str, seconds: float = WAIT_SECONDS
    ) -> dict[str, dict[str, Any]]:
        """Wait until exactly these pods are there."""
        self.wait(lambda: set(self.pods()) == set(names), f"pods {names}", seconds)
        return self.pods()
