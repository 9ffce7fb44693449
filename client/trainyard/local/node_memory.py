"""Where ranks keep their last snapshot between two attempts: this machine's memory, a folder each.

The folders live as long as the runner of their job, which holds their content in no other way.
"""

import contextlib
import os
import shutil
from pathlib import Path

from trainyard.state import LocalJob, state_directory

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  below it, folders that nobody else may enter
LEAST_BYTES = 512 * 2**20
"""With less room than this, as in many a container, ranks go without."""
_PREFIX = "trainyard-"


def make_node_memory(uid: str, node: int) -> Path | None:
    """The folder of one node of a job; None where this machine has no room for it."""
    path = _folder(uid, node)
    try:
        if shutil.disk_usage(SHARED_MEMORY).free < LEAST_BYTES:
            return None
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError:
        return None
    return path if found.st_uid == os.getuid() and path.is_dir() else None


def remove_node_memory(uid: str) -> None:
    """Of a job that no runner holds."""
    with contextlib.suppress(OSError):
        for path in SHARED_MEMORY.glob(f"{_PREFIX}{uid}-*"):
            shutil.rmtree(path, ignore_errors=True)


def sweep_node_memory() -> None:
    """Remove what runners left that were killed; what another state directory knows stays."""
    for path in SHARED_MEMORY.glob(f"{_PREFIX}*"):
        uid = path.name.removeprefix(_PREFIX).rpartition("-")[0]
        for directory in state_directory().glob(f"jobs/*/{uid}"):
            if LocalJob(directory).runner_pid is None:
                remove_node_memory(uid)


def _folder(uid: str, node: int) -> Path:
    return SHARED_MEMORY / f"{_PREFIX}{uid}-{node}"
