"""A certificate authority for one cluster, and the kubeconfigs of those who log in with it.

Names are those that kubeadm gives: `system:node:NAME` in group `system:nodes`, and so on.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.console import ClusterError
from cluster.process import run

_DAYS = "3650"


@dataclass(frozen=True)
class Authority:
    """Certificates and keys in one folder: NAME.crt and NAME.key; `ca` signs the others."""

    folder: Path

    def create(self) -> None:
        """Makes the authority itself and the key that signs ServiceAccount tokens."""
        if shutil.which("openssl") is None:
            raise ClusterError("There is no `openssl` to make certificates with: install it.")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._request("ca", "/CN=trainyard-test", ["basicConstraints=critical,CA:TRUE"], [])
        run(["openssl", "genrsa", "-out", self.key("sa"), "2048"])
        run(["openssl", "rsa", "-in", self.key("sa"), "-pubout", "-out", self.certificate("sa")])

    def issue(self, name: str, user: str, group: str = "", hosts: Sequence[str] = ()) -> None:
        """A certificate for the user, as a client and, if hosts are given, as their server."""
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        extensions = ["extendedKeyUsage=clientAuth" + (",serverAuth" if hosts else "")]
        if hosts:
            kinds = [f"{'IP' if host[0].isdigit() else 'DNS'}:{host}" for host in hosts]
            extensions.append("subjectAltName=" + ",".join(kinds))
        signer = ["-CA", str(self.certificate("ca")), "-CAkey", str(self.key("ca"))]
        self._request(name, subject, extensions, signer)

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def write_kubeconfig(self, path: Path, server: str, name: str) -> Path:
        """A kubeconfig that holds everything, so that it can be copied."""
        user = {
            "client-certificate-data": _base64(self.certificate(name)),
            "client-key-data": _base64(self.key(name)),
        }
        cluster = {
            "server": server,
            "certificate-authority-data": _base64(self.certificate("ca")),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(build_kubeconfig(cluster, user), indent=2) + "\n")
        return path

    def _request(
        self, name: str, subject: str, extensions: Sequence[str], signer: Sequence[str]
    ) -> None:
        added = [part for each in extensions for part in ("-addext", each)]
        request = ["openssl", "req", "-x509", "-nodes", "-days", _DAYS, "-subj", subject]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        files = ["-keyout", str(self.key(name)), "-out", str(self.certificate(name))]
        run([*request, *key, *signer, *added, *files])


def build_kubeconfig(cluster: dict[str, str], user: dict[str, str]) -> dict[str, object]:
    name = "trainyard-test"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
