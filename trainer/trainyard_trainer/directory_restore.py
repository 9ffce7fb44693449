"""Puts a program's checkpoint directory back before its next attempt, from a verified copy.

Nothing is ever given to the program that differs from its manifest. Where copies exist and none
can be used, the attempt fails: never start from nothing in silence.
"""

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainyard_operator.layout import QUARANTINE_PREFIX
from trainyard_trainer.directory_fetch import CONNECTIONS, CopyCorrupt, read_checked
from trainyard_trainer.directory_manifest import Copies, DirectoryManifest, StoredFile, list_copies
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.manifest import Rejected
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import CheckpointNotFound, NoValidCheckpoint, ObjectMissing


@dataclass(frozen=True)
class Restored:
    """What the directory holds now."""

    manifest: DirectoryManifest | None = None
    """None: there was nothing to restore."""
    warning: str | None = None
    """What was set aside to get here."""


def restore(storage: Storage, target: Path, *, before: int, set_aside: bool) -> Restored:
    """Make `target` hold the newest copy of an attempt earlier than `before`.

    Later ones are of attempts that run: all nodes of one must begin from the same.
    set_aside: move manifests of unusable copies away; one node does.
    Raises NoValidCheckpoint.
    """
    copies = list_copies(storage)
    aside = list(copies.rejected)
    candidates = [manifest for manifest in copies.valid if manifest.attempt < before]
    for manifest in candidates:
        try:
            fetch(storage, manifest, target)
        except CopyCorrupt as error:
            aside.append(Rejected(manifest.key, str(error)))
            continue
        if set_aside:
            _set_aside(storage, aside)
        return Restored(manifest, _warning(aside, manifest))
    if aside:
        raise NoValidCheckpoint(storage.uri, tuple(rejected.reason for rejected in aside))
    target.mkdir(parents=True, exist_ok=True)
    return Restored()


def restore_other(storage: Storage, target: Path, which: str) -> Restored:
    """The directory of another job, whose storage this is: `latest`, or a step it had reported."""
    copies = list_copies(storage)
    manifest = _pick(copies, which)
    if manifest is None:
        raise CheckpointNotFound(f"{storage.uri}/directory", which)
    fetch(storage, manifest, target)
    return Restored(manifest)


def _pick(copies: Copies, which: str) -> DirectoryManifest | None:
    if which == "best":
        raise ConfigurationError(
            "spec.checkpoint.resumeFrom.checkpoint: a program's directory has no 'best'; write "
            "latest or a step."
        )
    if which == "latest":
        return next(iter(copies.valid), None)
    return next((manifest for manifest in copies.valid if str(manifest.step) == which), None)


def fetch(storage: Storage, manifest: DirectoryManifest, target: Path) -> None:
    """Replace `target` by what the manifest names, verified. Raises CopyCorrupt."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with ThreadPoolExecutor(CONNECTIONS, "restore") as pool:
            list(pool.map(lambda file: _fetch_file(storage, manifest, file, partial),
                          manifest.files))  # fmt: skip
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch_file(
    storage: Storage, manifest: DirectoryManifest, file: StoredFile, folder: Path
) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _copy_checked(storage, manifest, file, path)
    except CopyCorrupt:
        _copy_checked(storage, manifest, file, path)  # The network may be to blame.
    os.utime(path, ns=(file.modified_ns, file.modified_ns))


def _copy_checked(
    storage: Storage, manifest: DirectoryManifest, file: StoredFile, path: Path
) -> None:
    with path.open("wb") as output:
        for chunk in read_checked(storage, manifest, file):
            output.write(chunk)


def _set_aside(storage: Storage, aside: Iterable[Rejected]) -> None:
    """Move manifests away; contents stay for whoever looks into it."""
    for rejected in aside:
        with suppress(ObjectMissing):
            storage.write(f"{QUARANTINE_PREFIX}/{rejected.key}", storage.read(rejected.key))
            storage.delete([rejected.key])


def _warning(aside: list[Rejected], used: DirectoryManifest) -> str | None:
    return f"{aside[0].reason} Set aside; going on from {used.name}." if aside else None
