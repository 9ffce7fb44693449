"""The commands of `cluster.py`."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import clean, fullcluster
from cluster.build import build_all, component
from cluster.console import ClusterError, say
from cluster.controlplane import ControlPlane
from cluster.mounts import remove_tree
from cluster.namespace import kubectl, prepare_namespace
from cluster.places import cache_directory
from cluster.process import is_alive


def up(options: Namespace) -> None:
    if options.control_plane_only:
        _start_control_plane(_directory(options))
        return
    with _one_at_a_time():
        fullcluster.up()
    print(f"{len(fullcluster.NODES)} nodes ready; S3 at {fullcluster.s3_access().endpoint}")
    print("next: " + 'eval "$(python3 tests/cluster/cluster.py env)" && kubectl get nodes')


def down(options: Namespace) -> None:
    if options.control_plane_only:
        _stop_control_plane(_directory(options))
        return
    with _one_at_a_time():
        fullcluster.down()


def status(options: Namespace) -> None:
    if not fullcluster.is_up():
        left = clean.leftovers()
        raise ClusterError(
            f"The cluster is half dead ({', '.join(left[:3])}, ...): start it again with `up`."
            if left
            else "The cluster is down: start it with `up`."
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
        "TRAINYARD_TEST_S3_ENDPOINT": access.endpoint,
        **access.environment(),
    }


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
    "build": (build, "only build the binaries into the cache"),
    "namespace": (namespace, "make a namespace where training pods can run"),
    "kill-node": (kill_node, "end all processes of a node at once, as a power failure does"),
    "cut-node": (cut_node, "cut a node off the network while its processes go on"),
    "start-node": (start_node, "bring a killed or cut node back and wait until it is Ready"),
}


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    locks = cache_directory() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / "cluster").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _directory(options: Namespace) -> Path:
    directory: Path = options.directory or cache_directory() / "control-plane"
    return directory.resolve()


def _start_control_plane(directory: Path) -> None:
    """Prints the kubeconfig; `down --control-plane-only` ends it."""
    _stop_control_plane(directory)
    control_plane = ControlPlane(directory, outlive=True)
    kubeconfig = control_plane.start()
    pids = [f"{daemon.process.pid}\n" for daemon in control_plane.daemons]
    (directory / "pids").write_text("".join(pids))
    say(f"kubectl is {component('kubectl')}")
    print(kubeconfig)


def _stop_control_plane(directory: Path) -> None:
    """Kills the processes that name the directory in their arguments, and deletes it."""
    pids = directory / "pids"
    if not pids.exists():
        return
    for pid in map(int, pids.read_text().split()):
        if is_alive(pid) and str(directory) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    remove_tree(directory)
