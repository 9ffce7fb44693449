"""The faults, by name: what each does to a running job, and how the cluster is made whole again.

A fault is a generator: it strikes, yields while the job recovers, and then heals.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.nodes import operators, victims
from chaos.nodes.arena import Arena
from chaos.nodes.nodes import lost_node, respread
from cluster import fullcluster
from cluster.outage import frozen, without
from cluster.process import is_alive, wait_until

Strike = Callable[[Arena], Iterator[None]]
AWAY_SECONDS = 60
MISSING_IMAGE = "localhost/no-such-image:1"
# Takes memory in the control group that its first argument names, until it is killed.
HOG = """
import sys, time
open(f"{sys.argv[1]}/cgroup.procs", "w").write("0")
held = []
while True:
    held.append(bytearray(b"x" * (16 << 20)))
    time.sleep(0.001)
"""


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    strike: Strike
    causes: frozenset[str]
    """What the job's history may give as the reason of restarts."""
    same_attempt: bool = False
    """Whether the attempt survives it."""
    makes_anew: bool = False
    """Whether another job takes its place."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Fields of the spec that the fault needs."""


FAULTS: dict[str, Fault] = {}


def fault(
    *causes: str, same_attempt: bool = False, makes_anew: bool = False, **spec: Any
) -> Callable[[Strike], Strike]:
    """Register a function under its name, with what its job's history may say."""

    def register(strike: Strike) -> Strike:
        name = strike.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, strike, frozenset(causes), same_attempt, makes_anew, spec)
        return strike

    return register


@contextmanager
def struck(fault: Fault, arena: Arena) -> Iterator[None]:
    """The fault, for as long as the block lasts; it is healed however that ends."""
    steps = fault.strike(arena)
    next(steps)
    try:
        yield
    finally:
        next(steps, None)


@fault("UserExit")
def rank_killed(arena: Arena) -> Iterator[None]:
    """SIGKILL of a rank; its pod goes on."""
    _signal_a_rank(arena, signal.SIGKILL)
    yield


@fault("PodDeleted", "Checkpointed")
def pod_deleted(arena: Arena) -> Iterator[None]:
    """kubectl delete pod, with the pod's own time for a checkpoint."""
    _delete_a_pod(arena, {})
    yield


@fault("PodDeleted")
def pod_deleted_by_force(arena: Arena) -> Iterator[None]:
    """kubectl delete pod --force --grace-period=0."""
    _delete_a_pod(arena, {"gracePeriodSeconds": 0})
    yield


@fault("NodeLost", "PodDeleted", "PeerLost", "UserExit")
def node_killed(arena: Arena) -> Iterator[None]:
    """kubelet, containerd and every container of a node are killed; then the node boots."""
    node = lost_node(arena)
    arena.strike()
    fullcluster.kill_node(node)
    yield
    _boot(node)
    respread(arena)


@fault("NodeLost", "PodDeleted", "PeerLost", "UserExit")
def node_with_the_operator_killed(arena: Arena) -> Iterator[None]:
    """The same to the node on which the operator acts."""
    operators.spread()
    node = operators.leader()["spec"]["nodeName"]
    arena.strike()
    fullcluster.kill_node(node)
    yield
    _boot(node)
    respread(arena)


@fault("NodeLost", "PodDeleted", "PeerLost", "UserExit")
def node_cut_off(arena: Arena) -> Iterator[None]:
    """A node's network is cut while all on it goes on; then the cable is mended."""
    node = lost_node(arena)
    arena.strike()
    fullcluster.cut_node(node)
    yield
    _boot(node)
    respread(arena)


@fault("NodeLost", "PodDeleted", "PeerLost", "UserExit", same_attempt=True)
def node_back_again(arena: Arena) -> Iterator[None]:
    """A node was lost and returns while the job runs on the other one: the job must not notice."""
    node = lost_node(arena)
    mark = arena.mark()
    arena.strike()
    fullcluster.kill_node(node)
    arena.next_step(mark, same_attempt=False)
    arena.strike()
    _boot(node)
    yield
    respread(arena)


@fault(same_attempt=True)
def operator_killed(arena: Arena) -> Iterator[None]:
    """The operator that acts is killed at a random moment: the job must not notice."""
    time.sleep(arena.dice.uniform(0, 1))
    arena.strike()
    operators.kill_leader()
    yield


@fault("UserExit", "PeerLost")
def operator_killed_in_a_recovery(arena: Arena) -> Iterator[None]:
    """The operator that acts is killed within 1.5 seconds of a rank's death."""
    _signal_a_rank(arena, signal.SIGKILL)
    time.sleep(arena.dice.uniform(0, 1.5))
    operators.kill_leader()
    yield
    operators.wait_until_ready()


@fault("PodDeleted", "UserExit", "PeerLost")
def operator_down_while_a_pod_fails(arena: Arena) -> Iterator[None]:
    """No operator runs for 5 seconds around the forced deletion of a pod."""
    with operators.none():
        _delete_a_pod(arena, {"gracePeriodSeconds": 0})
        time.sleep(5)
    yield
    operators.wait_until_ready()


@fault(same_attempt=True)
def api_server_and_etcd_restarted(arena: Arena) -> Iterator[None]:
    """Both are killed, and come back after 5 seconds: the job must not notice."""
    arena.strike()
    with without("etcd", "kube-apiserver"):
        time.sleep(5)
    yield
    arena.wait(fullcluster.control_plane().is_ready, "API server ready")
    operators.wait_until_ready()


@fault("UserExit", "PeerLost")
def rank_killed_without_api_server(arena: Arena) -> Iterator[None]:
    """A rank dies while API server and etcd are away for 5 seconds."""
    pid = _rank(arena, arena.dice.randrange(2))
    with without("etcd", "kube-apiserver"):
        arena.strike()
        os.kill(pid, signal.SIGKILL)
        time.sleep(5)
    yield
    operators.wait_until_ready()


@fault("UserExit", "PeerLost")
def two_operators_one_partitioned(arena: Arena) -> Iterator[None]:
    """Of two operators the one that leads is cut off from the API server; then a rank dies."""
    with operators.two(), operators.partitioned_leader():
        _signal_a_rank(arena, signal.SIGKILL)
        yield


@fault("Stalled", "PeerLost", runPolicy={"stallTimeoutSeconds": 10})
def rank_stopped(arena: Arena) -> Iterator[None]:
    """SIGSTOP of a rank, with stallTimeoutSeconds at its least, 10."""
    _signal_a_rank(arena, signal.SIGSTOP)
    yield


@fault("OutOfMemory")
def out_of_memory(arena: Arena) -> Iterator[None]:
    """The pod's memory limit is reached, and the kernel kills a rank."""
    rank = _rank(arena, arena.dice.randrange(2))
    Path(f"/proc/{rank}/oom_score_adj").write_text("1000")
    place = str(victims.memory_group(rank))
    with subprocess.Popen([sys.executable, "-c", HOG, place]) as hog:
        wait_until(lambda: not is_alive(rank), "rank dead", 30, interval_seconds=0.01)
        arena.strike()
        hog.kill()
    yield


@fault(same_attempt=True)
def storage_away(arena: Arena) -> Iterator[None]:
    """S3 is dead for 60 seconds: training must not wait for it."""
    arena.strike()
    with without("versitygw"):
        yield
        _stay_away(arena)


@fault(same_attempt=True)
def storage_frozen(arena: Arena) -> Iterator[None]:
    """S3 takes connections and never answers, for 60 seconds."""
    arena.strike()
    with frozen("versitygw"):
        yield
        _stay_away(arena)


@fault("Edited", "ImagePull")
def image_missing(arena: Arena) -> Iterator[None]:
    """The job is given an image that cannot be pulled, and 10 seconds later the right one."""
    container = {"name": "pytorch", "image": MISSING_IMAGE}
    own = arena.manifest["spec"]["template"]
    wrong = [container | {k: v for k, v in own["spec"]["containers"][0].items() if k != "image"}]
    arena.namespace.edit(arena.name, {"template": {"spec": {"containers": wrong}}})
    arena.wait(lambda: _waits_for_an_image(arena), "told that the image cannot be pulled")
    arena.strike()
    arena.namespace.edit(arena.name, {"template": own})
    yield


@fault(makes_anew=True)
def made_again_under_its_name(arena: Arena) -> Iterator[None]:
    """The job is deleted, and one of the same name created at once."""
    arena.strike()
    arena.namespace.delete(arena.name)
    arena.create()
    yield


def _rank(arena: Arena, node_index: int) -> int:
    pod = arena.pod(node_index)
    return victims.rank_of(pod["spec"]["nodeName"], pod["metadata"]["uid"], node_index)


def _signal_a_rank(arena: Arena, number: signal.Signals) -> None:
    """To one of the two, with the clock of the fault."""
    pid = _rank(arena, arena.dice.randrange(2))
    arena.strike()
    os.kill(pid, number)


def _delete_a_pod(arena: Arena, options: dict[str, Any]) -> None:
    name = arena.pod_name(arena.dice.randrange(2))
    arena.strike()
    arena.namespace.api.must("DELETE", f"{arena.namespace.core}/pods/{name}", options)


def _stay_away(arena: Arena) -> None:
    """Until AWAY_SECONDS after the fault."""
    time.sleep(max(AWAY_SECONDS - (time.monotonic() - arena.began), 0))


def _boot(node: str) -> None:
    fullcluster.start_node(node)
    fullcluster.wait_until_ready([fullcluster.runtime(node).node])


def _waits_for_an_image(arena: Arena) -> bool:
    conditions = arena.status().get("conditions", [])
    return any(c["type"] == "Running" and c["reason"] == "ImagePull" for c in conditions)
