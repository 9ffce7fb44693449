"""Where ranks keep their last snapshot between two attempts: this machine's memory, a folder each.

The folders live as long as the runner of their job, which holds their content in no other way.
"""

import contextlib
import os
import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  below it, folders that nobody else may enter
LEAST_BYTES = 512 * 2**20
"""With less room than this, as in many a container, ranks go without."""


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
        for path in SHARED_MEMORY.glob(_folder(uid, 0).name.removesuffix("0") + "*"):
            shutil.rmtree(path, ignore_errors=True)


def _folder(uid: str, node: int) -> Path:
    return SHARED_MEMORY / f"trainyard-{uid}-{node}"
