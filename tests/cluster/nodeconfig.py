"""The configuration files of a node's three daemons: pure builders."""

from __future__ import annotations

from pathlib import Path

from cluster.network import Node


def build_containerd_config(
    root: Path, state: Path, pause_image: str, cni_plugins: Path, cni_configs: Path
) -> str:
    # restrict_oom_score_adj: machines without CAP_SYS_RESOURCE refuse negative scores.
    return f"""version = 2
root = "{root}"
state = "{state}/containerd"

[grpc]
  address = "{state}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_plugins}"
  conf_dir = "{cni_configs}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
  Root = "{state}/runc"
"""


def build_cni_config(node: Node, leases: Path) -> dict[str, object]:
    # ptp, not bridge: everything is routed, so Services work within a node too, with or without
    # br_netfilter. No masquerading: peers must see the pods' own addresses.
    return {
        "cniVersion": "1.0.0",
        "name": node.namespace,
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(leases),
                    "ranges": [[{"subnet": node.pod_range}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def build_kubelet_config(
    disk: Path, socket: Path, authority: Path, dns_address: str, cgroup_root: str
) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [dns_address],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "resolvConf": str(disk / "resolv.conf"),
        "podLogsDir": str(disk / "pods"),
        "volumePluginDir": str(disk / "volume-plugins"),
        # A full disk of the developer's is no reason to evict pods, and an image cannot be pulled
        # again: never collect any.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        # The controller waits 16 s for a sign of life: give three.
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 16,
        "maxPods": 100,
    }


def build_proxy_config(node: str, pod_range: str, kubeconfig: Path) -> dict[str, object]:
    # 0 leaves the machine's conntrack settings alone: a network namespace may not set them.
    conntrack = {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": pod_range,
        "conntrack": conntrack,
        "hostnameOverride": node,
        "mode": "iptables",
    }
