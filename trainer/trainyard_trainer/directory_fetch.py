"""Reads a stored copy of a program's directory, every byte compared with its manifest. No torch."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from trainyard_trainer.directory_manifest import DirectoryManifest, StoredFile
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.manifest import Progress
from trainyard_trainer.storage import READ_CHUNK_BYTES, Storage
from trainyard_trainer.storage_errors import CheckpointError, ObjectMissing

CONNECTIONS = 8


class CopyCorrupt(CheckpointError):
    """A stored file is missing or differs from its manifest."""

    def __init__(self, manifest: DirectoryManifest, path: str, problem: str) -> None:
        self.manifest, self.path, self.problem = manifest, path, problem
        super().__init__(f"Checkpoint directory: {manifest.name} is corrupt: '{path}' {problem}.")


class FolderInTheWay(TrainyardError):
    """Where a copy should go lies something else, which nobody may delete but its owner."""

    def __init__(self, folder: Path, manifest: DirectoryManifest, path: str) -> None:
        self.folder, self.manifest, self.path = folder, manifest, path
        super().__init__(
            f"'{folder}' is there and is not {manifest.name}: '{path}' differs; move it away, or "
            "name another folder."
        )


def read_checked(
    storage: Storage, manifest: DirectoryManifest, file: StoredFile
) -> Iterator[bytes]:
    """A file's content. Raises CopyCorrupt, at the latest after the last byte."""
    digest, size = hashlib.sha256(), 0
    try:
        with storage.open_reader(file.key) as reader:
            while size <= file.size_bytes and (chunk := reader.read(READ_CHUNK_BYTES)):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
    except ObjectMissing as error:
        raise CopyCorrupt(manifest, file.path, "is missing") from error
    if size > file.size_bytes:
        raise CopyCorrupt(manifest, file.path, f"has more than its {file.size_bytes} bytes")
    if size != file.size_bytes:
        raise CopyCorrupt(manifest, file.path, f"has {size} of its {file.size_bytes} bytes")
    if digest.hexdigest() != file.sha256:
        raise CopyCorrupt(manifest, file.path, "differs from its SHA-256")


def verify_copy(storage: Storage, manifest: DirectoryManifest) -> None:
    """Read every file. Raises CopyCorrupt naming one that differs."""
    meter = _Meter(manifest, None)

    def check(file: StoredFile) -> None:
        for chunk in read_checked(storage, manifest, file):
            meter.add(len(chunk))

    _each(manifest, check, meter)


def download_copy(
    storage: Storage,
    manifest: DirectoryManifest,
    target: Path,
    progress: Progress | None = None,
) -> None:
    """Make `target` the directory as the copy has it, with the files' times.

    It has its name only once every byte is right; until then `<target>.partial` holds the files
    that are whole, and a later call goes on from them. Raises CopyCorrupt, FolderInTheWay.
    """
    if target.exists():
        _require_same(target, manifest)
        return
    partial = target.with_name(target.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    meter = _Meter(manifest, progress)

    def fetch(file: StoredFile) -> None:
        if _is_whole(partial / file.path, file):
            meter.add(file.size_bytes)
        else:
            _fetch(storage, manifest, file, partial, meter)

    try:
        _each(manifest, fetch, meter)
    except CopyCorrupt:
        shutil.rmtree(partial)  # It can never become the copy.
        raise
    partial.rename(target)


class _Meter:
    """Adds up what several threads read; once it is stopped, they end with their next bytes."""

    def __init__(self, manifest: DirectoryManifest, progress: Progress | None) -> None:
        self._total, self._progress = manifest.size_bytes, progress
        self._done, self._lock = 0, threading.Lock()
        self._is_stopped = False

    def add(self, size: int) -> None:
        """Negative: what has to be read again."""
        with self._lock:
            if self._is_stopped:
                raise _Stopped
            self._done += size
            if self._progress:
                self._progress(self._done, self._total)

    def stop(self) -> None:
        """Nobody waits for the rest."""
        self._is_stopped = True


class _Stopped(Exception):
    """Another thread failed, or a person pressed Ctrl-C."""


def _each(manifest: DirectoryManifest, action: Callable[[StoredFile], None], meter: _Meter) -> None:
    """For all files, several at a time; the first that fails ends the others."""
    with ThreadPoolExecutor(CONNECTIONS, "files") as pool:
        futures = [pool.submit(action, file) for file in manifest.files]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(
    storage: Storage, manifest: DirectoryManifest, file: StoredFile, folder: Path, meter: _Meter
) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(read_checked(storage, manifest, file), path, meter)
    except CopyCorrupt:  # The network may be to blame.
        _write(read_checked(storage, manifest, file), path, meter)
    os.utime(path, ns=(file.modified_ns, file.modified_ns))


def _write(chunks: Iterator[bytes], path: Path, meter: _Meter) -> None:
    size = 0
    try:
        with path.open("wb") as output:
            for chunk in chunks:
                output.write(chunk)
                size += len(chunk)
                meter.add(len(chunk))
    except CopyCorrupt:
        meter.add(-size)
        raise


def _is_whole(path: Path, file: StoredFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _require_same(folder: Path, manifest: DirectoryManifest) -> None:
    for file in manifest.files:
        if not _is_whole(folder / file.path, file):
            raise FolderInTheWay(folder, manifest, file.path)
