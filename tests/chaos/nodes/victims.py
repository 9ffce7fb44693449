"""Finding on this machine the processes behind pods of the test cluster, which is all on it."""

import os
from contextlib import suppress
from pathlib import Path

from cluster import fullcluster

RANK_FILES = "volumes/kubernetes.io~empty-dir/tmp/trainyard"


def rank_of(node: str, pod_uid: str, rank: int) -> int:
    """The process of a rank. Raises ProcessLookupError while it has none."""
    place = fullcluster.runtime(node).disk / "kubelet" / "pods" / pod_uid / RANK_FILES
    try:
        number = (place / f"rank-{rank}.pid").read_text().strip()
    except OSError:
        raise ProcessLookupError(f"rank {rank} has no process yet") from None
    for pid in processes_of(pod_uid):
        if _number_inside(pid) == number:
            return pid
    raise ProcessLookupError(f"rank {rank} is gone")


def processes_of(pod_uid: str) -> list[int]:
    """All processes of a pod."""
    return [pid for pid, groups in _grouped() if f"pod{pod_uid}" in groups]


def memory_group(pid: int) -> Path:
    """The folder of the control group that bounds a process's memory."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        if not controllers:
            version_2 = Path("/sys/fs/cgroup") / path.lstrip("/")
    return version_2


def _grouped() -> list[tuple[int, str]]:
    """Each process and the text of its control groups."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with suppress(OSError):
                found.append((int(folder.name), (folder / "cgroup").read_text()))
    return found


def _number_inside(pid: int) -> str:
    """Its number in the innermost namespace."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return line.split()[-1]
    return ""
