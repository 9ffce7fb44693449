"""The wires: a bridge on the host, and a network namespace with a cable to it for each node.

    10.77.0.1        the host: API server, S3, DNS
    10.77.0.10+N     node-N
    10.77.64+N.0/24  the pods of node-N
    10.77.128.0/20   Services

All firewall rules, pods' cables and kube-proxy's work are inside the nodes' namespaces: they go
with them, and the host gets a bridge and some routes, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.process import run

BRIDGE = "trainyard0"
HOST_ADDRESS = "10.77.0.1"
SERVICE_RANGE = "10.77.128.0/20"
SERVICE_ADDRESS = "10.77.128.1"
POD_RANGE = "10.77.64.0/18"


@dataclass(frozen=True)
class Node:
    """A node by its number, from 1."""

    number: int

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def address(self) -> str:
        return f"10.77.0.{10 + self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.77.{64 + self.number}.0/24"

    @property
    def namespace(self) -> str:
        return f"trainyard-{self.name}"

    @property
    def namespace_path(self) -> Path:
        return Path("/run/netns") / self.namespace

    @property
    def cable(self) -> str:
        """The host's end of the cable."""
        return f"trainyard-n{self.number}"


NODES = (Node(1), Node(2))


def create_bridge() -> None:
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{HOST_ADDRESS}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")


def connect(node: Node) -> None:
    """Makes the node's namespace, its cable, and the routes between all nodes' pods."""
    inside = ["-n", node.namespace]
    _ip("netns", "add", node.namespace)
    _ip("link", "add", node.cable, "type", "veth", "peer", "eth0", "netns", node.namespace)
    _ip("link", "set", node.cable, "master", BRIDGE, "up")
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "address", "add", f"{node.address}/24", "dev", "eth0")
    _ip(*inside, "link", "set", "eth0", "up")
    _ip(*inside, "route", "add", "default", "via", HOST_ADDRESS)
    for other in NODES:
        if other != node:
            _ip(*inside, "route", "add", other.pod_range, "via", other.address)
    _ip("route", "replace", node.pod_range, "via", node.address)
    if node == NODES[0]:
        # The host reaches Services too, through kube-proxy of the first node.
        _ip("route", "replace", SERVICE_RANGE, "via", node.address)
    forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    run(["nsenter", f"--net={node.namespace_path}", "sh", "-c", forwarding])


def set_cable(node: Node, state: str) -> None:
    """`down` cuts the node off while all its processes go on; `up` mends it."""
    _ip("link", "set", node.cable, state)


def disconnect(node: Node) -> None:
    """Removes the namespace, with all cables and rules in it."""
    _ip("link", "delete", node.cable, check=False)
    _ip("netns", "delete", node.namespace, check=False)


def remove() -> None:
    """Removes all of it, as far as it is there."""
    for node in NODES:
        disconnect(node)
    _ip("link", "delete", BRIDGE, check=False)


def leftovers() -> list[str]:
    """What is still there of it: links and namespaces, in words."""
    links = [line.split(":")[1].strip() for line in _ip("-o", "link").splitlines()]
    spaces = [line.split()[0] for line in _ip("netns").splitlines() if line]
    return [f"link {each}" for each in links if each.startswith("trainyard")] + [
        f"network namespace {each}" for each in spaces if each.startswith("trainyard-")
    ]


def _ip(*arguments: str, check: bool = True) -> str:
    return run(["ip", *arguments], check=check)
