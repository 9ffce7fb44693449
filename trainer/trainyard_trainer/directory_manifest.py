"""What a stored copy of a program's directory consists of: files, and a manifest written last.

    directory/a2/000003/manifest.json     the third copy that attempt 2 made
    directory/a2/000003/00000             content of a file that was new or changed then
    quarantine/directory/a1/000001/...    manifests that were set aside

A file that did not change is not sent again: the manifest names the object of an earlier copy.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from trainyard_operator.layout import (
    DIRECTORY_PREFIX,
    MANIFEST_FILE,
    QUARANTINE_PREFIX,
    directory_copy,
)
from trainyard_trainer.manifest import Best, Rejected
from trainyard_trainer.storage import Storage, check_key
from trainyard_trainer.storage_errors import ManifestInvalid, ObjectMissing

FORMAT: Literal[1] = 1

_Count = Annotated[int, Field(ge=0)]
_OBJECT = re.compile(rf"{DIRECTORY_PREFIX}/a\d+/\d{{6,}}/\d{{5,}}")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StoredFile(_Frozen):
    """One file of the directory."""

    path: str
    """Relative to the directory."""
    key: str
    """Of its content, relative to the run's storage."""
    size_bytes: _Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    modified_ns: _Count
    """Programs look for the newest checkpoint by its time."""

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        check_key(self.path)
        if not _OBJECT.fullmatch(self.key):
            raise ValueError(f"object '{self.key}' lies outside of '{DIRECTORY_PREFIX}'")
        return self


class DirectoryManifest(_Frozen):
    """One copy of the directory, complete by definition."""

    format: Literal[1] = FORMAT
    namespace: str
    job: str
    uid: str
    attempt: _Count
    sequence: _Count
    """Counts the copies of one attempt."""
    step: _Count | None = None
    """What the program had reported when the directory last changed."""
    epoch: _Count | None = None
    created_at: str
    metrics: dict[str, FiniteFloat] = {}
    files: Annotated[tuple[StoredFile, ...], Field(min_length=1)]

    @property
    def prefix(self) -> str:
        """Its own place, relative to the run's storage."""
        return directory_copy(self.attempt, self.sequence)

    @property
    def key(self) -> str:
        """Where the manifest itself lies."""
        return f"{self.prefix}/{MANIFEST_FILE}"

    @property
    def name(self) -> str:
        """For messages."""
        return f"copy {self.sequence} of attempt {self.attempt}"

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, the files' digests included."""
        return hashlib.sha256(_render(self.model_dump(mode="json"))).hexdigest()

    def to_json(self) -> bytes:
        """Sorted, without spaces, with the digest of the rest: one text per content."""
        return _render(self.model_dump(mode="json") | {"digest": self.digest})

    @classmethod
    def from_json(cls, data: bytes, key: str) -> "DirectoryManifest":
        """Accept exactly what `to_json` wrote, at its place. Raises ManifestInvalid."""
        try:
            body = json.loads(data)
            body.pop("digest", None)
            manifest = cls.model_validate_json(json.dumps(body))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(name) for name in first["loc"])
            raise ManifestInvalid(key, f"{where or 'content'}: {first['msg']}") from error
        except (ValueError, AttributeError) as error:
            raise ManifestInvalid(key, "it is no JSON object") from error
        if manifest.to_json() != data:
            raise ManifestInvalid(key, "it differs from its own digest")
        if manifest.key != key:
            raise ManifestInvalid(key, f"it belongs at '{manifest.key}'")
        return manifest


def _render(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True)
class Copies:
    """All manifests of a run's directory."""

    valid: tuple[DirectoryManifest, ...] = ()
    """Newest first: by attempt, then by sequence."""
    rejected: tuple[Rejected, ...] = ()


def list_set_aside(storage: Storage) -> list[tuple[str, DirectoryManifest | None]]:
    """Copies that a restart found spoilt, by the keys they had; None: the manifest is spoilt."""
    found: list[tuple[str, DirectoryManifest | None]] = []
    for entry in storage.list(f"{QUARANTINE_PREFIX}/{DIRECTORY_PREFIX}/"):
        key = entry.key.removeprefix(f"{QUARANTINE_PREFIX}/")
        if key.endswith("/" + MANIFEST_FILE):
            try:
                found.append((key, DirectoryManifest.from_json(storage.read(entry.key), key)))
            except ManifestInvalid:
                found.append((key, None))
    return found


def list_copies(storage: Storage) -> Copies:
    """Read every manifest; the files' contents are not looked at."""
    valid, rejected = [], []
    for entry in storage.list(f"{DIRECTORY_PREFIX}/"):
        if not entry.key.endswith("/" + MANIFEST_FILE):
            continue
        try:
            valid.append(DirectoryManifest.from_json(storage.read(entry.key), entry.key))
        except ManifestInvalid as error:
            rejected.append(Rejected(error.key, str(error)))
        except ObjectMissing:
            continue  # Retention deleted it between the listing and the read.
    valid.sort(key=lambda manifest: (manifest.attempt, manifest.sequence), reverse=True)
    return Copies(tuple(valid), tuple(rejected))


def plan_kept(
    manifests: Sequence[DirectoryManifest], last: int, best: Best | None, resumed: str | None
) -> list[DirectoryManifest]:
    """The newest, the best, and the one that this attempt went on from.

    manifests: newest first. resumed: its key.
    """
    chosen = best_copy(manifests, best) if best else None
    return [
        manifest
        for index, manifest in enumerate(manifests)
        if index < last or manifest is chosen or manifest.key == resumed
    ]


def best_copy(manifests: Sequence[DirectoryManifest], best: Best) -> DirectoryManifest | None:
    """The copy whose metrics are best; None where no copy has that metric."""
    sign = 1 if best.mode == "min" else -1
    having = [manifest for manifest in manifests if best.metric in manifest.metrics]
    return min(having, key=lambda manifest: sign * manifest.metrics[best.metric], default=None)


def unreferenced(
    doomed: Sequence[DirectoryManifest], kept: Sequence[DirectoryManifest]
) -> list[str]:
    """Objects that only the doomed copies name."""
    needed = {file.key for manifest in kept for file in manifest.files}
    return sorted({file.key for manifest in doomed for file in manifest.files} - needed)
