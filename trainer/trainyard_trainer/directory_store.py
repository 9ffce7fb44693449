"""Copies a program's checkpoint directory to storage while the program runs.

Contents first, the manifest last, under keys that hold the attempt's number. A copy counts only if
the directory looked the same after it as before.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainyard_operator.contract import Env, now_text
from trainyard_operator.layout import (
    DIRECTORY_PREFIX,
    MANIFEST_FILE,
    QUARANTINE_PREFIX,
    directory_copy,
)
from trainyard_trainer.directory import Listing, Seen, part_of, scan, unit_of
from trainyard_trainer.directory_manifest import (
    DirectoryManifest,
    StoredFile,
    list_copies,
    plan_kept,
    unreferenced,
)
from trainyard_trainer.manifest import Best
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage import READ_CHUNK_BYTES, Storage
from trainyard_trainer.storage_errors import StorageError


class CopyLost(StorageError):
    """Storage has not got what it took."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(f"Checkpoint directory: storage took '{uri}' and has not got it whole.")


class NameNotText(StorageError):
    """A file's name has bytes that no manifest can hold."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{Env.CHECKPOINT_DIR}: the name {path!r} is no UTF-8; rename the file.")


@dataclass(frozen=True)
class Reported:
    """What the program had said of itself when it saved."""

    step: int | None = None
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


class DirectoryStore:
    """The copies of one attempt; used by one thread."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        keep_last: int,
        best: Best | None = None,
        *,
        first_sequence: int = 0,
    ) -> None:
        self._storage, self._identity = storage, identity
        self._keep_last, self._best = keep_last, best
        self._sequence = first_sequence
        self._is_untidy = True
        self._files: dict[str, tuple[Seen, StoredFile]] = {}
        """Of the newest copy: how a file looked, and where its content lies."""
        self._sent: dict[str, tuple[Seen, StoredFile]] = {}
        """The same, of copies since then that came to nothing."""
        self._resumed: DirectoryManifest | None = None
        self.latest: DirectoryManifest | None = None
        self.kept: int | None = None

    def take_up(self, root: Path, manifest: DirectoryManifest) -> Listing:
        """Go on from a copy of this run, which `root` holds now."""
        listing = scan(root)
        known = {file.path: file for file in manifest.files}
        self._files = {path: (seen, known[path]) for path, seen in listing.items()}
        self._resumed = manifest
        return listing

    def save(
        self, root: Path, listing: Listing, reported: Reported, units: Collection[str]
    ) -> DirectoryManifest | None:
        """A copy of what `listing` shows; None where it was written to meanwhile.

        units: what of it is on disk; the rest is in storage already.
        """
        self._sequence += 1
        files = self._send_all(root, listing, units)
        if files is None or part_of(scan(root), units) != part_of(listing, units):
            self._is_untidy = True
            return None
        manifest = self._manifest(files, reported)
        self._check_sizes(manifest)
        copies = list_copies(self._storage).valid
        if any(copy.attempt > self._identity.attempt for copy in copies):
            return None  # This attempt was replaced.
        self._storage.write(manifest.key, manifest.to_json(), if_absent=True)
        self.latest = manifest
        self._files = {f.path: (listing[f.path], f) for f in files}
        self._sent.clear()
        self._retain([manifest, *copies])
        return manifest

    def _send_all(
        self, root: Path, listing: Listing, units: Collection[str]
    ) -> list[StoredFile] | None:
        """None where a file is not what it was."""
        files = []
        for index, (path, seen) in enumerate(sorted(listing.items())):
            file = self._known(path, seen)
            if file is None and unit_of(path) in units:
                file = self._send(root, path, seen, index)
            if file is None:
                return None
            files.append(file)
        return files

    def _known(self, path: str, seen: Seen) -> StoredFile | None:
        for known in (self._files, self._sent):
            if path in known and known[path][0] == seen:
                return known[path][1]
        return None

    def _send(self, root: Path, path: str, seen: Seen, index: int) -> StoredFile | None:
        """None where the file is not what it was."""
        if path.encode(errors="ignore").decode() != path:
            raise NameNotText(path)
        key = f"{directory_copy(self._identity.attempt, self._sequence)}/{index:05d}"
        try:
            with (root / path).open("rb") as source, self._storage.open_writer(key) as writer:
                while chunk := source.read(READ_CHUNK_BYTES):
                    writer.write(chunk)
        except FileNotFoundError:
            return None
        if writer.size_bytes != seen.size_bytes:
            return None
        file = StoredFile(
            path=path,
            key=key,
            size_bytes=writer.size_bytes,
            sha256=writer.sha256,
            modified_ns=seen.modified_ns,
        )
        self._sent[path] = seen, file
        return file

    def _manifest(self, files: Sequence[StoredFile], reported: Reported) -> DirectoryManifest:
        identity = self._identity
        return DirectoryManifest(
            namespace=identity.namespace,
            job=identity.job,
            uid=identity.uid,
            attempt=identity.attempt,
            sequence=self._sequence,
            step=reported.step,
            epoch=reported.epoch,
            created_at=now_text(),
            metrics=dict(reported.metrics),
            files=tuple(files),
        )

    def _check_sizes(self, manifest: DirectoryManifest) -> None:
        """Believe storage, not the writers, on what is there."""
        there = {e.key: e.size_bytes for e in self._storage.list(f"{DIRECTORY_PREFIX}/")}
        for file in manifest.files:
            if there.get(file.key) != file.size_bytes:
                self._files.clear()  # What storage lost is sent again.
                self._sent.clear()
                raise CopyLost(self._storage.uri_of(file.key))

    def _retain(self, manifests: Sequence[DirectoryManifest]) -> None:
        """Delete what need not be kept, manifests first. manifests: newest first."""
        resumed = self._resumed.key if self._resumed else None
        kept = plan_kept(manifests, self._keep_last, self._best, resumed)
        doomed = [manifest for manifest in manifests if manifest not in kept]
        self._storage.delete([manifest.key for manifest in doomed])
        self._storage.delete(unreferenced(doomed, kept))
        self.kept = len(kept)
        if self._is_untidy:
            self._storage.delete(self._orphans(kept))
            self._is_untidy = False

    def _orphans(self, kept: Sequence[DirectoryManifest]) -> list[str]:
        """What earlier attempts, or unquiet copies, left without a manifest."""
        needed = {file.key for manifest in kept for file in manifest.files}
        needed |= {file.key for _, file in (*self._files.values(), *self._sent.values())}
        aside = {
            entry.key.removeprefix(f"{QUARANTINE_PREFIX}/").removesuffix(MANIFEST_FILE)
            for entry in self._storage.list(f"{QUARANTINE_PREFIX}/{DIRECTORY_PREFIX}/")
        }
        return [
            entry.key
            for entry in self._storage.list(f"{DIRECTORY_PREFIX}/")
            if entry.key not in needed
            and not entry.key.endswith("/" + MANIFEST_FILE)
            and not entry.key.startswith(tuple(aside))
        ]

    def report(self) -> dict[str, Any] | None:
        """For `contract.Report.latest`."""
        manifest = self.latest or self._resumed
        if manifest is None:
            return None
        return {
            "step": manifest.step if manifest.step is not None else manifest.sequence,
            "epoch": manifest.epoch,
            "uri": self._storage.uri_of(manifest.prefix),
            "bytes": manifest.size_bytes,
            "sha256": manifest.digest,
            "time": manifest.created_at,
        }
