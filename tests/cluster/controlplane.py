"""etcd and kube-apiserver, with or without controllers: a Kubernetes API in about five seconds.

from cluster.controlplane import ControlPlane

with ControlPlane() as kubeconfig:   # no root, no pods; as many at once as you like
    ...
"""

from __future__ import annotations

import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from patience import WAIT_SECONDS
from ports import free_ports

from cluster.build import component
from cluster.certificates import Authority
from cluster.process import Daemon, spawn, wait_until

_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")


@dataclass
class ControlPlane:
    """One API server with its etcd; RBAC and Pod Security admission are on.

    directory: data, certificates and logs; by default a temporary one that `stop` removes.
    controllers: also kube-controller-manager and kube-scheduler.
    api_server_flags, scheduler_flags: further ones, such as --audit-log-path=FILE.
    outlive: go on when the thread that called `start` ends; else they die with it.
    """

    directory: Path | None = None
    controllers: bool = False
    outlive: bool = False
    address: str = "127.0.0.1"
    port: int = 0
    service_range: str = "10.77.128.0/20"
    service_address: str = "10.77.128.1"
    cgroups: Sequence[Path] = ()
    api_server_flags: Sequence[str] = ()
    scheduler_flags: Sequence[str] = ()
    daemons: list[Daemon] = field(default_factory=list, init=False)
    _temporary: bool = field(default=False, init=False)

    def start(self) -> Path:
        """Starts all and waits until the API server is ready: the administrator's kubeconfig."""
        if self.directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix="trainyard-control-plane-"))
            self._temporary = True
        etcd_port, peer_port, free_port = free_ports(3)
        self.port = self.port or free_port
        try:
            self._issue_certificates()
            self._start_etcd(etcd_port, peer_port)
            self._start_api_server(etcd_port)
            wait_until(self.is_ready, "API server ready", WAIT_SECONDS, self.daemons)
            if self.controllers:
                self._start_controllers()
        except BaseException:
            self.kill()
            raise
        return self.kubeconfig("admin")

    def stop(self) -> None:
        """SIGKILL to all, and the temporary directory goes."""
        self.kill()
        if self._temporary and self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory, self._temporary = None, False

    def kill(self) -> None:
        """SIGKILL to all that run; the directory stays."""
        for daemon in reversed(self.daemons):
            daemon.kill()
        self.daemons.clear()

    def __enter__(self) -> Path:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def authority(self) -> Authority:
        return Authority(self._home / "certificates")

    @property
    def _home(self) -> Path:
        assert self.directory is not None, "start() sets it"
        return self.directory

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of one who has a certificate: `admin`, `node-1`, ..."""
        path = self._home / "kubeconfig" / name
        return path if path.exists() else self.authority.write_kubeconfig(path, self.server, name)

    def is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority.certificate("ca")))
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", timeout=5, context=context) as r:
                return bool(r.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _issue_certificates(self) -> None:
        authority = self.authority
        authority.create()
        hosts = [*_NAMES, f"{_NAMES[2]}.cluster.local", self.address, self.service_address]
        authority.issue("kube-apiserver", "kube-apiserver", hosts=[*hosts, "127.0.0.1"])
        authority.issue("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
        authority.issue("admin", "kubernetes-admin", "system:masters")
        if self.controllers:
            for name in ("kube-controller-manager", "kube-scheduler"):
                authority.issue(name, f"system:{name}")

    def _start_etcd(self, port: int, peer_port: int) -> None:
        peer = f"http://127.0.0.1:{peer_port}"
        client = f"http://127.0.0.1:{port}"
        self._spawn(
            "etcd",
            f"--data-dir={self._home / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )

    def _start_api_server(self, etcd_port: int) -> None:
        authority = self.authority
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={authority.certificate('kube-apiserver')}",
            f"--tls-private-key-file={authority.key('kube-apiserver')}",
            f"--client-ca-file={authority.certificate('ca')}",
            f"--kubelet-client-certificate={authority.certificate('kubelet-client')}",
            f"--kubelet-client-key={authority.key('kubelet-client')}",
            # Else `kubectl logs` looks up the node's name.
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-cluster-ip-range={self.service_range}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={authority.certificate('sa')}",
            f"--service-account-signing-key-file={authority.key('sa')}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # Without controllers no namespace gets the ServiceAccount that it asks of each pod.
            f"--disable-admission-plugins={'' if self.controllers else 'ServiceAccount'}",
            "--allow-privileged=true",
            "--profiling=false",
            *self.api_server_flags,
        )

    def _start_controllers(self) -> None:
        authority = self.authority
        manager, scheduler = "kube-controller-manager", "kube-scheduler"
        manager_port, scheduler_port = free_ports(2)
        self._spawn(
            manager,
            f"--kubeconfig={self.kubeconfig(manager)}",
            f"--secure-port={manager_port}",
            "--bind-address=127.0.0.1",
            f"--root-ca-file={authority.certificate('ca')}",
            f"--service-account-private-key-file={authority.key('sa')}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            # A lost node is noticed in seconds, not in the usual 40.
            "--node-monitor-grace-period=16s",
            # Claims are bound in a second, not in fifteen.
            "--pvclaimbinder-sync-period=1s",
        )
        self._spawn(
            scheduler,
            f"--kubeconfig={self.kubeconfig(scheduler)}",
            f"--secure-port={scheduler_port}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            *self.scheduler_flags,
        )

    def _spawn(self, name: str, *arguments: str) -> None:
        log = self._home / "logs" / f"{name}.log"
        self.daemons.append(
            spawn(
                name,
                [component(name), *arguments],
                log,
                outlive=self.outlive,
                cgroups=self.cgroups,
            )
        )
