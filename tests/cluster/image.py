"""The two images that pods run from, made without a registry and without a container builder.

The base image is Debian's own Python and nothing else; the project and its dependencies come in
by volumes (`site_packages.py`), so that a change needs no new image.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from cluster.build import cached, program
from cluster.console import step
from cluster.mounts import remove_tree
from cluster.places import DEBIAN_SUITE, PYTHON_VERSION
from cluster.process import Command, run

PAUSE_IMAGE = "localhost/trainyard-pause:1"
PYTHON_IMAGE = f"localhost/trainyard-python:{PYTHON_VERSION}"
POD_USER = 65532

# Raise it when what is below changes, so that the image is made anew.
_REVISION = 4
# Half of the files that Debian's smallest system has: each is written and deleted again by every
# `up` and `down`, once a node.
_UNNEEDED = (
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/share/bash-completion",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl5",
    "usr/share/zoneinfo/posix",
    "usr/share/zoneinfo/right",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
)
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def archives() -> list[Path]:
    """The images as docker-archive files, made if the cache lacks them."""
    pause = cached(f"image-pause-{_REVISION}", _make_pause_image)
    python = cached(f"image-python-{PYTHON_VERSION}-{_REVISION}", _make_python_image)
    return [pause / "image.tar", python / "image.tar"]


def _make_pause_image(folder: Path) -> None:
    root = folder / "root"
    root.mkdir()
    shutil.copy(program("pause"), root / "pause")
    _write_archive(folder / "image.tar", root, PAUSE_IMAGE, {"Entrypoint": ["/pause"]})
    shutil.rmtree(root)


def _make_python_image(folder: Path) -> None:
    root = folder / "root"
    packages = "python3,ca-certificates"
    with step(f"make the image {PYTHON_IMAGE}"):
        command: Command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={packages}",
            DEBIAN_SUITE,
            root,
        ]
        run(["nice", *command])
        (root / "usr/bin/python").symlink_to("python3")
        for name in _UNNEEDED:
            shutil.rmtree(root / name, ignore_errors=True)
        # The user has no name in /etc/passwd, as in most images that people bring.
        settings = {"User": f"{POD_USER}:{POD_USER}", "Cmd": ["python3"], "WorkingDir": "/tmp"}
        _write_archive(folder / "image.tar", root, PYTHON_IMAGE, settings)
        remove_tree(root)


def _write_archive(archive: Path, root: Path, name: str, settings: Mapping[str, object]) -> None:
    """A docker-archive of one layer: what `ctr images import` and `docker load` read."""
    layer = archive.with_name("layer.tar")
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        for entry in sorted(root.iterdir()):
            tar.add(entry, arcname=entry.name)
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Env": [_PATH], **settings},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    # Named by content: containerd locks by name, and two imports at once would wait.
    names = {"Config": f"{digest}.json", "Layers": [f"{digest}.tar"]}
    with tarfile.open(archive, "w") as tar:
        _add_json(tar, "manifest.json", [{"RepoTags": [name], **names}])
        _add_json(tar, f"{digest}.json", config)
        tar.add(layer, arcname=f"{digest}.tar")
    layer.unlink()


def _add_json(tar: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
