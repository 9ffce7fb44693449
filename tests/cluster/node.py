"""A node: containerd, kubelet and kube-proxy in a network namespace of their own.

Everything of it is below `state/node-N` (disks), `/run/trainyard-cluster/node-N` (sockets and
mounts, as after a reboot empty) and the control group `trainyard-cluster/node-N`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster import cgroup, network
from cluster.build import component
from cluster.controlplane import ControlPlane
from cluster.image import PAUSE_IMAGE, archives
from cluster.mounts import remove_tree, unmount_below
from cluster.network import HOST_ADDRESS, POD_RANGE, Node
from cluster.nodeconfig import (
    build_cni_config,
    build_containerd_config,
    build_kubelet_config,
    build_proxy_config,
)
from cluster.packages import CNI_PLUGINS
from cluster.places import run_directory, state_directory
from cluster.process import Daemon, spawn, wait_until


@dataclass(frozen=True)
class NodeRuntime:
    """One node's processes and folders."""

    node: Node

    @property
    def disk(self) -> Path:
        return state_directory() / self.node.name

    @property
    def volatile(self) -> Path:
        return run_directory() / self.node.name

    @property
    def socket(self) -> Path:
        return self.volatile / "containerd.sock"

    def start_containerd(self) -> Daemon:
        """The node's network and containerd; returns when that listens."""
        network.connect(self.node)
        self.disk.mkdir(parents=True, exist_ok=True)
        self.volatile.mkdir(parents=True, exist_ok=True)
        cni = self.disk / "cni" / "10-trainyard.conflist"
        cni.parent.mkdir(exist_ok=True)
        cni.write_text(json.dumps(build_cni_config(self.node, self.disk / "leases"), indent=2))
        config = self.disk / "containerd.toml"
        config.write_text(
            build_containerd_config(
                self.disk / "containerd",
                self.volatile,
                PAUSE_IMAGE,
                CNI_PLUGINS,
                cni.parent,
            )
        )
        daemon = self._spawn("containerd", "containerd", "--config", config)
        wait_until(self.socket.exists, "containerd listens", 30, [daemon])
        return daemon

    def begin_import(self) -> list[subprocess.Popen[bytes]]:
        """Starts to load the images, one process for each."""
        control = [
            "ctr",
            "--address",
            str(self.socket),
            "--namespace",
            "k8s.io",
            "images",
            "import",
        ]
        return [
            subprocess.Popen(
                [*control, archive], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            for archive in archives()
        ]

    def start_kubelet(self, control_plane: ControlPlane) -> list[Daemon]:
        """kubelet and kube-proxy; returns at once."""
        name = self.node.name
        (self.disk / "resolv.conf").write_text("")
        kubelet = self._write(
            "kubelet.json",
            build_kubelet_config(
                self.disk,
                self.socket,
                control_plane.authority.certificate("ca"),
                HOST_ADDRESS,
                f"/{cgroup.node_group(name)}",
            ),
        )
        proxy = self._write(
            "kube-proxy.json",
            build_proxy_config(name, POD_RANGE, control_plane.kubeconfig("kube-proxy")),
        )
        return [
            self._spawn(
                "kubelet",
                component("kubelet"),
                f"--config={kubelet}",
                f"--kubeconfig={control_plane.kubeconfig(name)}",
                f"--hostname-override={name}",
                f"--node-ip={self.node.address}",
                f"--root-dir={self.disk / 'kubelet'}",
                f"--cert-dir={self.disk / 'kubelet' / 'pki'}",
            ),
            self._spawn("kube-proxy", component("kube-proxy"), f"--config={proxy}"),
        ]

    def kill(self) -> None:
        """The power fails: every process of the node dies, pods included; mounts stay behind."""
        cgroup.kill_all(cgroup.node_group(self.node.name))

    def clear(self) -> None:
        """What a reboot clears: processes, network, mounts, sockets. The disk stays."""
        self.kill()
        network.disconnect(self.node)
        unmount_below(self.disk)
        remove_tree(self.volatile)

    def _write(self, name: str, config: dict[str, object]) -> Path:
        path = self.disk / name
        path.write_text(json.dumps(config, indent=2) + "\n")
        return path

    def _spawn(self, name: str, *command: str | Path) -> Daemon:
        """In the node's network but the host's mounts, which kubelet and containerd share."""
        return spawn(
            f"{self.node.name}-{name}",
            ["nsenter", f"--net={self.node.namespace_path}", *command],
            self.disk / "logs" / f"{name}.log",
            outlive=True,
            cgroups=cgroup.create(cgroup.node_group(self.node.name)),
        )
