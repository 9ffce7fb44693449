"""The environment of a pod's container, translated for a process on this machine."""

import dataclasses
import hashlib
import itertools
import os
import random
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from trainyard.local.node_memory import make_node_memory
from trainyard.local.processes import Launch, container_of
from trainyard_operator.companion import NAME as COMPANION
from trainyard_operator.companion import SHARED, SUPERVISED
from trainyard_operator.contract import PROGRESS_PORT, Env, Label, RunRequest
from trainyard_operator.desired import TRAINER_COMMAND

LOCALHOST = "127.0.0.1"
_PORTS = range(10_000, 20_000)
"""Systems give none of them to outgoing connections."""
_DROPPED = ("HOME", "USER")
"""Set in a restricted pod only because it has no home."""


@dataclass(frozen=True, kw_only=True)
class Gang:
    """What the processes of one attempt share."""

    master_port: int
    progress_ports: tuple[int, ...]
    """One for each node."""
    directory: Path
    """One directory for each of them below it."""
    data_directory: Path
    """Where data sets are put that have to be brought here first; kept between runs."""
    ranks: int


def new_gang(directory: Path, data_directory: Path, nodes: int, ranks: int) -> Gang:
    """A gang with ports that are free now."""
    master_port, *progress_ports = free_ports(nodes + 1)
    return Gang(
        master_port=master_port,
        progress_ports=tuple(progress_ports),
        directory=directory,
        data_directory=data_directory,
        ranks=ranks,
    )


def build_launch(manifest: dict[str, Any], gang: Gang) -> Launch:
    """How to start the process of a pod."""
    container = container_of(manifest)
    directory = gang.directory / manifest["metadata"]["name"]
    termination_log = directory / "termination.json"
    given = _given(container, manifest)
    command = [*container["command"], *container.get("args", [])]
    if command[: len(TRAINER_COMMAND)] == TRAINER_COMMAND:
        command[0] = sys.executable
    elif companion := _companion_of(manifest):
        given |= _given(companion, manifest)
        command = [sys.executable, *companion["command"][1:], *command[len(SUPERVISED) :]]
    node = int(manifest["metadata"]["labels"][Label.NODE_INDEX])
    environ = _inherited(os.environ) | _localized(given, gang, node)
    if Env.NODE_MEMORY in given:
        environ |= _node_memory(given[Env.JOB_UID], node)
    if Env.SHARED in given:
        environ |= _beside_companion(given, directory, gang.progress_ports[node])
    environ |= {Env.SCRATCH: str(directory), Env.TERMINATION_LOG: str(termination_log)}
    environ |= _hardware(container, node, gang.ranks)
    if Env.RUN in given:
        environ[Env.RUN] = _with_local_data(given[Env.RUN], gang.data_directory)
        if Env.DATASET_DIR in given:
            path = RunRequest.from_json(environ[Env.RUN]).dataset_path
            environ[Env.DATASET_DIR] = path or given[Env.DATASET_DIR]
    return Launch(
        command=[_expanded(word, environ) for word in command],
        environ=environ,
        directory=directory,
        termination_log=termination_log,
        progress_port=gang.progress_ports[node],
    )


def local_path(uri: str) -> Path | None:
    """The path that a file:// URI names; None for another scheme."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _given(container: dict[str, Any], manifest: dict[str, Any]) -> dict[str, str]:
    """The container's variables; secrets and config maps come from the caller's environment."""
    fields = {"metadata.name": manifest["metadata"]["name"], "spec.nodeName": "localhost"}
    values = {}
    for entry in container.get("env", []):
        if entry["name"] in _DROPPED:
            continue
        if "value" in entry:
            values[entry["name"]] = str(entry["value"])
        elif path := entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath"):
            values[entry["name"]] = fields.get(path, "")
    return values


def _companion_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    found = manifest["spec"].get("initContainers", [])
    return next((one for one in found if one["name"] == COMPANION), None)


def _beside_companion(given: Mapping[str, str], directory: Path, port: int) -> dict[str, str]:
    """A program and its companion share the directory of their node, and its port."""
    places = {key: value for key, value in given.items() if value.startswith(f"{SHARED}/")}
    server = f"http://{LOCALHOST}:{PROGRESS_PORT}/"
    urls = {key: value for key, value in given.items() if value.startswith(server)}
    return {
        Env.SHARED: str(directory),
        **{key: f"{directory}{value.removeprefix(SHARED)}" for key, value in places.items()},
        **{key: value.replace(f":{PROGRESS_PORT}/", f":{port}/") for key, value in urls.items()},
    }


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what an outer run left there."""
    prefixes = ("TRAINYARD_", "PET_", "MASTER_", "LOCAL_", "GROUP_")
    names = {"RANK", "WORLD_SIZE"}
    return {
        key: value
        for key, value in environ.items()
        if not key.startswith(prefixes) and key not in names
    }


def _localized(given: dict[str, str], gang: Gang, node: int) -> dict[str, str]:
    """Every mention of the first pod's address and ports replaced by this machine's."""
    master, port = given["MASTER_ADDR"], given["MASTER_PORT"]
    values = {key: value.replace(master, LOCALHOST) for key, value in given.items()}
    for key, value in values.items():
        if value == f"{LOCALHOST}:{port}":
            values[key] = f"{LOCALHOST}:{gang.master_port}"
    ports = {
        "MASTER_PORT": gang.master_port,
        "PET_MASTER_PORT": gang.master_port,
        Env.PROGRESS_PORT: gang.progress_ports[node],
    }
    values |= {key: str(value) for key, value in ports.items() if key in values}
    of_pods = (Env.NODE_MEMORY, Env.DATASET_CACHE)
    return {key: value for key, value in values.items() if key not in of_pods}


def _node_memory(uid: str, node: int) -> dict[str, str]:
    path = make_node_memory(uid, node)
    return {Env.NODE_MEMORY: str(path)} if path else {}


def _hardware(container: dict[str, Any], node: int, ranks: int) -> dict[str, str]:
    """A share of the cores for each rank, and its own GPUs for each node that asks for some."""
    values = {}
    if "OMP_NUM_THREADS" not in os.environ:
        values["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // ranks))
    limits = (container.get("resources") or {}).get("limits") or {}
    gpus = sum(int(count) for name, count in limits.items() if name.endswith("/gpu"))
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        known = visible.split(",") if visible else [str(i) for i in range((node + 1) * gpus)]
        values["CUDA_VISIBLE_DEVICES"] = ",".join(known[node * gpus : (node + 1) * gpus])
    return values


def _with_local_data(text: str, directory: Path) -> str:
    """The run request with the data set where this machine has it, or can put it."""
    request = RunRequest.from_json(text)
    uri = request.dataset_uri
    if uri is None:
        return text
    path = local_path(uri)
    if path is not None:
        request = dataclasses.replace(request, dataset_uri=None, dataset_path=str(path))
    else:
        # One copy for all nodes and later runs: the trainer locks it and fetches what is new.
        place = directory / hashlib.sha256(uri.encode()).hexdigest()[:16]
        request = dataclasses.replace(request, dataset_path=str(place))
    return request.to_json()


def _expanded(word: str, environ: Mapping[str, str]) -> str:
    """$(NAME) as a kubelet replaces it."""
    import re

    return re.sub(r"\$\((\w+)\)", lambda m: environ.get(m[1], m[0]), word)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free now, all different.

    They are listened at seconds later: one of those that any program gets would be gone by then.
    """
    drawn = random.SystemRandom().sample(_PORTS, len(_PORTS))
    return list(itertools.islice(filter(_is_free, drawn), count))


def _is_free(port: int) -> bool:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOCALHOST, port))
        except OSError:
            return False
    return True
