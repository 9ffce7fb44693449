"""Removing folders that may hold live mounts.

A plain `rm -rf` through the bind mount of a volume deletes the files of the host: here nothing is
deleted before all that is mounted below is gone.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from cluster.console import ClusterError
from cluster.places import state_directory
from cluster.process import run


def below(folder: Path) -> list[Path]:
    """What is mounted at the folder or below it, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(_unescape(line.split()[4])) for line in lines]
    inside = [point for point in points if point == folder or folder in point.parents]
    return sorted(inside, key=lambda point: len(point.parts), reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmounts all that is mounted at the folder or below it. Raises ClusterError if some stay."""
    folder = folder.resolve()
    for point in below(folder):
        run(["umount", point], check=False)
    for point in below(folder):
        run(["umount", "--lazy", point], check=False)
    if left := below(folder):
        raise ClusterError(f"Cannot unmount {', '.join(map(str, left))}.")


def remove_tree(folder: Path) -> None:
    """Deletes the folder and all in it, on its own file system only."""
    if folder.is_symlink() or folder.exists():
        unmount_below(folder)
        shutil.rmtree(folder)


def read_only_view(folder: Path) -> Path:
    """The folder as a read-only mount among the cluster's own, for pods.

    A kubelet that is told of an fsGroup changes group and mode of all files in a volume: of the
    checkout's too, unless the mount forbids it.
    """
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    view = state_directory() / "volumes" / name
    view.mkdir(parents=True, exist_ok=True)
    if not view.samefile(folder):
        # Not mounted yet, or the folder was deleted and made anew since.
        unmount_below(view)
        run(["mount", "--bind", folder, view])
        run(["mount", "-o", "remount,bind,ro", view])
    return view


def _unescape(text: str) -> str:
    """mountinfo writes a space as \\040, and so on."""
    return text.encode().decode("unicode_escape")
