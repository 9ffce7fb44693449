"""CoreDNS on the host: answers for Services in `cluster.local`, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cluster.build import component, program
from cluster.controlplane import ControlPlane
from cluster.process import Command, Daemon, run, spawn

_USER = "system:coredns"
_RULES = [
    {
        "apiGroups": [""],
        "resources": ["services", "endpoints", "pods", "namespaces"],
        "verbs": ["list", "watch"],
    },
    {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["list", "watch"],
    },
]


def start_dns(
    control_plane: ControlPlane, address: str, folder: Path, cgroups: Sequence[Path]
) -> Daemon:
    """Grants CoreDNS what it reads, and starts it on port 53 of the address."""
    control_plane.authority.issue("coredns", _USER)
    grant = json.dumps({"apiVersion": "v1", "kind": "List", "items": build_grant()})
    kubectl: Command = [component("kubectl"), f"--kubeconfig={control_plane.kubeconfig('admin')}"]
    run([*kubectl, "apply", "--filename=-"], stdin=grant)
    corefile = folder / "Corefile"
    corefile.write_text(build_corefile(address, control_plane.kubeconfig("coredns")))
    command: Command = [program("coredns"), "-conf", corefile]
    return spawn("coredns", command, folder / "logs/coredns.log", outlive=True, cgroups=cgroups)


def build_corefile(address: str, kubeconfig: Path) -> str:
    # A short time to live: pods come back under the same name with another address.
    return f""".:53 {{
    bind {address}
    errors
    kubernetes cluster.local 10.in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 2
    }}
}}
"""


def build_grant() -> list[dict[str, object]]:
    role: dict[str, object] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _USER},
        "rules": _RULES,
    }
    binding: dict[str, object] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _USER},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": _USER,
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": _USER}],
    }
    return [role, binding]
