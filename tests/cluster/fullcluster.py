"""The whole cluster: a control plane on the host, two nodes, DNS and S3."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster import cgroup, clean, network, sysctl
from cluster.build import build_all, component
from cluster.console import ClusterError, say, step
from cluster.controlplane import ControlPlane
from cluster.dns import start_dns
from cluster.image import archives
from cluster.network import HOST_ADDRESS, NODES, SERVICE_ADDRESS, SERVICE_RANGE, Node
from cluster.node import NodeRuntime
from cluster.packages import install, require_root
from cluster.places import cache_directory, saved_settings, state_directory
from cluster.process import Command, Daemon, is_alive, run, wait_until
from cluster.s3 import S3, S3Access, new_access
from cluster.site_packages import remove_old_site_packages, site_packages

API_PORT = 6443
S3_PORT = 9000


def up() -> None:
    """Starts the cluster, unless it is up; what a dead one left is cleared first."""
    require_root()
    with _one_at_a_time():
        if is_up():
            say("The cluster is already up.")
        else:
            _start_anew()


def down() -> None:
    """Removes the cluster. Raises ClusterError if something of it is still there."""
    require_root()
    with _one_at_a_time(), step("remove the cluster"):
        clean.remove_cluster()
    if left := clean.leftovers():
        raise ClusterError("Still there: " + ", ".join(left))


def is_up() -> bool:
    """Whether every daemon of the last `up` still runs."""
    return _record().exists() and not dead_daemons()


def dead_daemons() -> list[str]:
    """The names of those daemons that have ended."""
    pids: dict[str, int] = _read_record()["pids"]
    return [name for name, pid in pids.items() if not is_alive(pid) or not _is_ours(pid)]


def pid(daemon: str) -> int:
    """For SIGSTOP and the like: of `kube-apiserver`, `versitygw`, `node-1-kubelet`, ..."""
    return int(_read_record()["pids"][daemon])


def kubeconfig() -> Path:
    """The administrator's. Raises ClusterError if there is no cluster."""
    _read_record()
    return control_plane().kubeconfig("admin")


def api_server() -> str:
    return control_plane().server


def s3_access() -> S3Access:
    """S3 as host and pods reach it. Raises ClusterError if there is no cluster."""
    return S3Access(**_read_record()["s3"])


def binaries() -> Path:
    """A folder for PATH: kubectl of the cluster's version."""
    return state_directory() / "bin"


def runtime(name: str) -> NodeRuntime:
    """The node of that name, to act on it. Raises ClusterError if there is none."""
    require_root()
    for node in NODES:
        if node.name == name:
            return NodeRuntime(node)
    raise ClusterError(f"No node '{name}'; there are {', '.join(n.name for n in NODES)}.")


def kill_node(name: str) -> None:
    """As if its power failed: all its processes end at once, and nobody is told."""
    runtime(name).kill()


def cut_node(name: str) -> None:
    """As if its cable was pulled: everything on it goes on, but nobody reaches it."""
    network.set_cable(runtime(name).node, "down")


def start_node(name: str) -> None:
    """After `kill_node`: a boot. After `cut_node`: only the cable is mended."""
    node = runtime(name)
    if not any(daemon.startswith(f"{name}-") for daemon in dead_daemons()):
        network.set_cable(node.node, "up")
        return
    node.clear()
    replace_daemons([node.start_containerd(), *node.start_kubelet(control_plane())])


def replace_daemons(daemons: Sequence[Daemon]) -> None:
    """Daemons that were started anew take the place of those of the same names."""
    record = _read_record()
    record["pids"] |= {daemon.name: daemon.process.pid for daemon in daemons}
    _write_record(record)


def wait_until_ready(nodes: Sequence[Node] = NODES, daemons: Sequence[Daemon] = ()) -> None:
    """Until the nodes are Ready."""
    wait_until(lambda: {node.name for node in nodes} <= _ready(), "nodes ready", 90, daemons)


def is_ready(node: Node) -> bool:
    return node.name in _ready()


def _start_anew() -> None:
    install()
    build_all()
    archives()
    site_packages()
    if clean.leftovers():
        with step("clear what a dead cluster left"):
            clean.remove_cluster()
    remove_old_site_packages()
    with step("two nodes ready, in all"):
        _start()


def _start() -> None:
    sysctl.save(saved_settings())
    with step("network and containerd of the nodes"):
        network.create_bridge()
        system = cgroup.create(cgroup.ROOT)
        runtimes = [NodeRuntime(node) for node in NODES]
        daemons = [each.start_containerd() for each in runtimes]
        imports = [each for node in runtimes for each in node.begin_import()]
    with step("S3"):
        access, s3 = _start_s3(system)
    with step("etcd, API server, controllers"):
        plane = control_plane(system)
        plane.start()
        for name in ("kube-proxy", *(node.name for node in NODES)):
            is_node = name != "kube-proxy"
            user = f"system:node:{name}" if is_node else f"system:{name}"
            plane.authority.issue(name, user, "system:nodes" if is_node else "")
    with step("DNS"):
        dns = start_dns(plane, HOST_ADDRESS, state_directory(), system)
    with step("images"):
        for each in imports:
            if each.wait() != 0:
                raise ClusterError("an image cannot be loaded: the lines above say why")
    daemons += [s3, dns, *plane.daemons]
    with step("kubelets"):
        for node in runtimes:
            daemons += node.start_kubelet(plane)
        binaries().mkdir()
        (binaries() / "kubectl").symlink_to(component("kubectl"))
        _write_record(
            {"pids": {each.name: each.process.pid for each in daemons}, "s3": asdict(access)}
        )
        wait_until_ready(daemons=daemons)


def _start_s3(cgroups: Sequence[Path]) -> tuple[S3Access, Daemon]:
    server = S3(state_directory() / "s3", S3_PORT, HOST_ADDRESS, outlive=True, cgroups=cgroups)
    access = server.start(new_access(f"http://{HOST_ADDRESS}:{S3_PORT}"))
    assert server.daemon is not None, "start() sets it"
    return access, server.daemon


def control_plane(cgroups: Sequence[Path] = ()) -> ControlPlane:
    """To reach its API server; `start` is for `up` alone."""
    return ControlPlane(
        state_directory() / "control-plane",
        controllers=True,
        outlive=True,
        address=HOST_ADDRESS,
        port=API_PORT,
        service_range=SERVICE_RANGE,
        service_address=SERVICE_ADDRESS,
        cgroups=cgroups,
    )


def _ready() -> set[str]:
    """The names of the nodes that are Ready."""
    condition = '{range .status.conditions[?(@.type=="Ready")]}{.status}{end}'
    path = f'jsonpath={{range .items[*]}}{{.metadata.name}}={condition}{{"\\n"}}{{end}}'
    admin = control_plane().kubeconfig("admin")
    command: Command = [component("kubectl"), f"--kubeconfig={admin}", "get", "nodes"]
    lines = run([*command, f"--output={path}"], check=False).split()
    return {name for name, _, status in (line.partition("=") for line in lines) if status == "True"}


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    locks = cache_directory() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / "cluster").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_ours(pid: int) -> bool:
    """A number may have passed to a process of somebody else."""
    try:
        return cgroup.ROOT in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _record() -> Path:
    return state_directory() / "cluster.json"


def _read_record() -> dict[str, Any]:
    if not _record().exists():
        raise ClusterError("There is no cluster: start it with `make cluster-up`.")
    return dict(json.loads(_record().read_text()))


def _write_record(record: dict[str, Any]) -> None:
    _record().touch(mode=0o600)
    _record().write_text(json.dumps(record, indent=2) + "\n")
