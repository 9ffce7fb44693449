"""The commands of `cluster.py`."""

from __future__ import annotations

import os
import shlex
import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from cluster import fullcluster
from cluster.build import build_all, component
from cluster.console import ClusterError, say
from cluster.controlplane import ControlPlane
from cluster.mounts import remove_tree
from cluster.namespace import kubectl, prepare_namespace
from cluster.network import NODES
from cluster.places import cache_directory
from cluster.process import processes_with
from cluster.s3 import S3

S3_ENDPOINT = "TRAINYARD_TEST_S3_ENDPOINT"


def up(options: Namespace) -> None:
    if options.control_plane_only:
        _start_control_plane(_directory(options))
        return
    fullcluster.up()
    print(f"{len(NODES)} nodes ready; S3 at {fullcluster.s3_access().endpoint}")
    print("next: " + 'eval "$(python3 tests/cluster/cluster.py env)" && kubectl get nodes')


def down(options: Namespace) -> None:
    if options.control_plane_only:
        _stop_control_plane(_directory(options))
        return
    fullcluster.down()


def status(options: Namespace) -> None:
    if dead := fullcluster.dead_daemons():
        raise ClusterError(
            f"The cluster lacks {', '.join(dead)}: `up` starts it anew, `start-node` a node."
        )
    print(kubectl("get", "nodes", "--output=wide"), end="")
    print(f"API server  {fullcluster.api_server()}")
    print(f"kubeconfig  {fullcluster.kubeconfig()}")
    print(f"S3          {fullcluster.s3_access().endpoint}")
    print(f"kubectl     {fullcluster.binaries() / 'kubectl'}")


def env(options: Namespace) -> None:
    for name, value in environment().items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(str(fullcluster.binaries()))}:"$PATH"')


def environment() -> dict[str, str]:
    """What a test needs to reach the cluster; PATH is not in it."""
    access = fullcluster.s3_access()
    return {
        "KUBECONFIG": str(fullcluster.kubeconfig()),
        S3_ENDPOINT: access.endpoint,
        **access.environment(),
    }


def s3(options: Namespace) -> None:
    """Serves until Ctrl-C; the exports come first, so that another shell can take them."""
    server = S3(options.root, options.port)
    access = server.start()
    for name, value in {S3_ENDPOINT: access.endpoint, **access.environment()}.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)
    say(f"S3 serves {options.root} until Ctrl-C.")
    try:
        signal.pause()
    except KeyboardInterrupt:
        server.stop()


def build(options: Namespace) -> None:
    build_all()


def namespace(options: Namespace) -> None:
    prepare_namespace(options.name)


def kill_node(options: Namespace) -> None:
    fullcluster.kill_node(options.node)


def cut_node(options: Namespace) -> None:
    fullcluster.cut_node(options.node)


def start_node(options: Namespace) -> None:
    fullcluster.start_node(options.node)
    fullcluster.wait_until_ready([fullcluster.runtime(options.node).node])


COMMANDS: dict[str, tuple[Callable[[Namespace], None], str]] = {
    "up": (up, "start the cluster, unless it is up; clears what a dead one left"),
    "down": (down, "remove the cluster and everything of it but the cache"),
    "status": (status, "the nodes and where everything is; exit code 1 if it is not up"),
    "env": (env, "shell exports: KUBECONFIG, PATH, AWS_*, TRAINYARD_TEST_S3_ENDPOINT"),
    "s3": (s3, "only S3, over a folder, without root; ends with Ctrl-C"),
    "build": (build, "only build the binaries into the cache"),
    "namespace": (namespace, "make a namespace where training pods can run"),
    "kill-node": (kill_node, "end all processes of a node at once, as a power failure does"),
    "cut-node": (cut_node, "cut a node off the network while its processes go on"),
    "start-node": (start_node, "bring a killed or cut node back and wait until it is Ready"),
}


def _directory(options: Namespace) -> Path:
    directory: Path = options.directory or cache_directory() / "control-plane"
    return directory.resolve()


def _start_control_plane(directory: Path) -> None:
    """Prints the kubeconfig; `down --control-plane-only` ends it."""
    _stop_control_plane(directory)
    kubeconfig = ControlPlane(directory, outlive=True).start()
    say(f"kubectl is {component('kubectl')}")
    print(kubeconfig)


def _stop_control_plane(directory: Path) -> None:
    """Kills the processes whose arguments name a file of the directory, and deletes it."""
    for name in ("kube-apiserver", "etcd"):
        for pid in processes_with(name, f"={directory}/"):
            os.kill(pid, signal.SIGKILL)
    if (directory / "certificates").exists():
        remove_tree(directory)
