"""Kubeflow's training-operator v1, as a process beside an API server.

It makes certificates for its webhook, puts them into a Secret, and waits until they lie in a
folder, where in a cluster a volume shows them: here they are copied and it is started again.
"""

import base64
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.build import program
from cluster.process import Daemon, spawn, wait_until
from integration.api_server import CORE, ApiServer
from patience import WAIT_SECONDS
from ports import free_ports

PYTORCHJOBS = "/apis/kubeflow.org/v1"
SYSTEM = "kubeflow"
SECRET = "training-operator-webhook-cert"
# Its program knows only this folder.
CERTIFICATES = Path("/tmp/k8s-webhook-server/serving-certs")
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
INIT_CONTAINER = """\
- name: init-pytorch
  image: "{{.InitContainerImage}}"
  command: [sh, -c, "until nslookup {{.MasterAddr}}; do sleep 2; done"]
  securityContext:
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
"""
"""Of a worker: one that a restricted namespace takes."""


@contextmanager
def running_kubeflow(
    api: ApiServer, folder: Path, flags: Sequence[str] = (), *, init_container: str = INIT_CONTAINER
) -> Iterator[Daemon]:
    """Ready; its resource and its namespace stay behind."""
    install(api)
    webhook, probe, metrics = free_ports(3)
    name = "validator.training-operator.kubeflow.org"
    api.send("DELETE", f"{WEBHOOKS}/{name}")
    api.must("POST", WEBHOOKS, build_webhook(name, webhook))
    template = folder / "init-container.yaml"
    template.write_text(init_container)
    command = [
        program("training-operator.v1"),
        "--enable-scheme=pytorchjob",
        f"--pytorch-init-container-template-file={template}",
        f"--webhook-server-port={webhook}",
        f"--health-probe-bind-address=127.0.0.1:{probe}",
        f"--metrics-bind-address=127.0.0.1:{metrics}",
        *flags,
    ]
    environment = {"KUBECONFIG": str(api.plane.kubeconfig("admin")), "MY_POD_NAMESPACE": SYSTEM}
    log = folder / "training-operator.log"
    daemon = spawn("training-operator", command, log, environment=environment)
    try:
        wait_until(lambda: copy_certificates(api), "certificates", WAIT_SECONDS, [daemon])
        daemon.kill()
        daemon = spawn("training-operator", command, log, environment=environment)
        wait_until(lambda: is_ready(probe), "Kubeflow's operator ready", WAIT_SECONDS, [daemon])
        yield daemon
    finally:
        daemon.kill()


def install(api: ApiServer) -> None:
    """Its namespace, resource and the Secret that it fills."""
    api.send("POST", f"{CORE}/namespaces", {"metadata": {"name": SYSTEM}})
    api.send("POST", f"{CORE}/namespaces/{SYSTEM}/secrets", {"metadata": {"name": SECRET}})
    crds = program("training-operator.v1").parent / "crds"
    api.apply_text((crds / "kubeflow.org_pytorchjobs.yaml").read_text())
    wait_until(
        lambda: api.send("GET", f"{PYTORCHJOBS}/pytorchjobs").ok, "PyTorchJobs", WAIT_SECONDS
    )


def build_webhook(name: str, port: int) -> dict[str, Any]:
    """At an address of this machine, for which its certificate is not made: it is not asked."""
    rule = {
        "apiGroups": ["kubeflow.org"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["pytorchjobs"],
    }
    url = f"https://127.0.0.1:{port}/validate-kubeflow-org-v1-pytorchjob"
    webhook = {
        "name": "validator.pytorchjob.training-operator.kubeflow.org",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": url},
        "failurePolicy": "Ignore",
        "rules": [rule],
        "sideEffects": "None",
        "timeoutSeconds": 1,
    }
    return {"metadata": {"name": name}, "webhooks": [webhook]}


def copy_certificates(api: ApiServer) -> bool:
    """Whether the Secret has them."""
    data = api.must("GET", f"{CORE}/namespaces/{SYSTEM}/secrets/{SECRET}").get("data") or {}
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    for name, text in data.items():
        (CERTIFICATES / name).write_bytes(base64.b64decode(text))
    return "tls.crt" in data


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
