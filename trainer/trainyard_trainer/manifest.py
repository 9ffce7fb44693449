"""What a checkpoint consists of. No torch here: the client lists, checks and fetches with it.

A checkpoint is a directory of immutable parts and a `manifest.json`, which is written last: it
exists exactly when its manifest does. `storage` is always that of one run, the child at
`layout.run_prefix` of spec.storage.uri.

    model.pt         torch.load(..., weights_only=True) gives state["model"]: what the recipe's
                     load_state_dict takes, or a dict of such by module name
    part-<rank>.pt   {"shared": ..., "rank": ...}: optimizers and the like, and the rank's RNG
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from trainyard_operator.layout import (
    CHECKPOINTS_PREFIX,
    MANIFEST_FILE,
    MODEL_FILE,
    checkpoint_prefix,
)
from trainyard_trainer.storage import READ_CHUNK_BYTES, Storage
from trainyard_trainer.storage_errors import CheckpointCorrupt, ManifestInvalid, ObjectMissing

FORMAT: Literal[1] = 1

Mode = Literal["min", "max"]
Progress = Callable[[int, int], None]
"""Takes the bytes that are there and the bytes of all."""
_Count = Annotated[int, Field(ge=0)]
_PART_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*\.pt")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Best(_Frozen):
    """Which checkpoint of a run is the best one."""

    metric: str
    mode: Mode = "min"

    @classmethod
    def from_spec(cls, checkpoint: Mapping[str, Any]) -> "Best | None":
        """keepBest of a job's spec.checkpoint, where mode is max unless set; None without one."""
        rule = checkpoint.get("keepBest")
        return cls(metric=rule["metric"], mode=rule.get("mode") or "max") if rule else None


class Part(_Frozen):
    """One object of a checkpoint."""

    key: str
    """Relative to the run's storage."""
    size_bytes: _Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    rank: _Count
    """The rank that wrote it."""

    @property
    def name(self) -> str:
        """The key without its directory."""
        return self.key.rpartition("/")[2]


class Manifest(_Frozen):
    """One checkpoint, complete by definition."""

    format: Literal[1] = FORMAT
    job: str
    namespace: str
    uid: str
    attempt: _Count
    step: _Count
    """Optimizer steps taken."""
    epoch: _Count
    stage: str = ""
    """Stage of a recipe that has several; empty where it has one."""
    cursor: _Count = 0
    """Samples of this epoch that were consumed."""
    samples_seen: _Count = 0
    """Samples consumed since step 0."""
    world_size: Annotated[int, Field(ge=1)]
    config_hash: str = ""
    """Of the recipe's configuration; empty where the recipe keeps none."""
    created_at: str
    metrics: dict[str, FiniteFloat] = {}
    """The last known values; one that is not finite is left out."""
    best: Best | None = None
    """How the run chose its best checkpoint when this one was written."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        for part in self.parts:
            if part.key != f"{self.prefix}/{part.name}" or not _PART_NAME.fullmatch(part.name):
                raise ValueError(f"part '{part.key}' lies outside of '{self.prefix}'")
        return self

    @property
    def prefix(self) -> str:
        """The checkpoint's directory, relative to the run's storage."""
        return checkpoint_prefix(self.step, self.attempt)

    @property
    def key(self) -> str:
        """Where the manifest itself lies."""
        return f"{self.prefix}/{MANIFEST_FILE}"

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, the parts' digests included."""
        return hashlib.sha256(_render(self.model_dump(mode="json"))).hexdigest()

    @property
    def weights(self) -> Part | None:
        """The part that holds the weights alone."""
        return next((part for part in self.parts if part.name == MODEL_FILE), None)

    def to_json(self) -> bytes:
        """Sorted, without spaces, with the digest of the rest: one text per content."""
        return _render(self.model_dump(mode="json") | {"digest": self.digest})

    @classmethod
    def from_json(cls, data: bytes, key: str = MANIFEST_FILE) -> "Manifest":
        """Accept exactly what `to_json` wrote; `key` is for messages. Raises ManifestInvalid."""
        try:
            body = json.loads(data)
        except ValueError as error:
            raise ManifestInvalid(key, "it is no JSON") from error
        if not isinstance(body, dict):
            raise ManifestInvalid(key, "it is no JSON object")
        if body.get("format") != FORMAT:
            raise ManifestInvalid(key, f"its format is {body.get('format')!r}, not {FORMAT}")
        body.pop("digest", None)
        try:
            manifest = cls.model_validate_json(json.dumps(body))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(name) for name in first["loc"])
            raise ManifestInvalid(key, f"{where or 'content'}: {first['msg']}") from error
        if manifest.to_json() != data:
            raise ManifestInvalid(key, "it differs from its own digest")
        return manifest


def _render(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True)
class Rejected:
    """A manifest that is there and cannot be used."""

    key: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """All manifests of a run."""

    valid: tuple[Manifest, ...] = ()
    """Newest first: by step, then by attempt."""
    rejected: tuple[Rejected, ...] = ()


def list_manifests(storage: Storage, known: Mapping[str, Manifest] | None = None) -> Listing:
    """Every manifest of the run; parts are not looked at (see `verify`).

    known: by key, those that were read before and need not be read again: they never change.
    """
    valid, rejected = [], []
    for entry in storage.list(f"{CHECKPOINTS_PREFIX}/"):
        if not entry.key.endswith("/" + MANIFEST_FILE):
            continue
        try:
            had = known.get(entry.key) if known else None
            valid.append(had or read_manifest(storage, entry.key))
        except ManifestInvalid as error:
            rejected.append(Rejected(error.key, str(error)))
        except ObjectMissing:
            continue  # Retention deleted it between the listing and the read.
    valid.sort(key=lambda manifest: (manifest.step, manifest.attempt), reverse=True)
    return Listing(tuple(valid), tuple(rejected))


def read_manifest(storage: Storage, key: str) -> Manifest:
    """One manifest, checked against its own digest and place. Raises ManifestInvalid."""
    manifest = Manifest.from_json(storage.read(key), key)
    if manifest.key != key:
        raise ManifestInvalid(key, f"it belongs at '{manifest.key}'")
    return manifest


def select_best(manifests: Iterable[Manifest], metric: str, mode: Mode) -> Manifest | None:
    """The best value of a metric, the earliest of equals; None where no checkpoint has it."""
    sign = 1 if mode == "min" else -1
    having = [manifest for manifest in manifests if metric in manifest.metrics]
    return min(having, key=lambda m: (sign * m.metrics[metric], m.step, m.attempt), default=None)


def best_rule(manifests: Sequence[Manifest]) -> Best | None:
    """What the run goes by, as its newest checkpoint has it; `manifests` are newest first."""
    return next((manifest.best for manifest in manifests if manifest.best), None)


def best_of(manifests: Sequence[Manifest]) -> Manifest | None:
    """The best one by the run's own rule; `manifests` are newest first."""
    rule = best_rule(manifests)
    return select_best(manifests, rule.metric, rule.mode) if rule else None


def verify(storage: Storage, manifest: Manifest) -> None:
    """Read every part again. Raises CheckpointCorrupt naming the first that differs."""
    for part in manifest.parts:
        check = PartCheck(manifest, part)
        for chunk in read_part(storage, manifest, part):
            check.update(chunk)
        check.finish()


def read_part(storage: Storage, manifest: Manifest, part: Part, offset: int = 0) -> Iterator[bytes]:
    """The bytes of a part from `offset`. Raises CheckpointCorrupt where it is not there."""
    try:
        with storage.open_reader(part.key, offset) as reader:
            yield from iter(lambda: reader.read(READ_CHUNK_BYTES), b"")
    except ObjectMissing as error:
        raise CheckpointCorrupt(manifest.step, part.name, "is missing") from error


class PartCheck:
    """Compares bytes, as they come, with the size and digest of a part."""

    def __init__(self, manifest: Manifest, part: Part) -> None:
        self._step, self._part = manifest.step, part
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def update(self, chunk: bytes) -> None:
        """Take the next bytes. Raises CheckpointCorrupt as soon as there are too many."""
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
        if self.size_bytes > self._part.size_bytes:
            self._fail(f"has more than its {self._part.size_bytes} bytes")

    def finish(self) -> None:
        """Raises CheckpointCorrupt where the bytes so far are not the part."""
        if self.size_bytes != self._part.size_bytes:
            self._fail(f"has {self.size_bytes} of its {self._part.size_bytes} bytes")
        if self._hash.hexdigest() != self._part.sha256:
            self._fail("differs from its SHA-256")

    def _fail(self, problem: str) -> None:
        raise CheckpointCorrupt(self._step, self._part.name, problem)


def download(
    storage: Storage,
    manifest: Manifest,
    directory: Path,
    progress: Progress | None = None,
    parts: Sequence[Part] | None = None,
) -> list[Path]:
    """Fetch parts (all where None) and the manifest into `directory`; returns the files.

    Bytes are checked as they come. What an interrupted download left is gone on from, and a file
    has its final name only once it is whole and right. Raises CheckpointCorrupt.
    """
    chosen = manifest.parts if parts is None else parts
    total, before = sum(part.size_bytes for part in chosen), 0
    directory.mkdir(parents=True, exist_ok=True)
    for part in chosen:
        for size in _download_part(storage, manifest, part, directory / part.name):
            if progress:
                progress(before + size, total)
        before += part.size_bytes
    (directory / MANIFEST_FILE).write_bytes(manifest.to_json())
    return [directory / part.name for part in chosen]


def _download_part(storage: Storage, manifest: Manifest, part: Part, target: Path) -> Iterator[int]:
    """Yields the bytes that are there after each chunk."""
    partial = target.with_name(target.name + ".partial")
    if target.exists() and not partial.exists():
        target.replace(partial)  # Checked like any other beginning; whole files cost no network.
    resumed = partial.exists()
    try:
        yield from _extend(storage, manifest, part, partial)
    except CheckpointCorrupt:
        partial.unlink(missing_ok=True)
        if not resumed:
            raise
        # The beginning that was left here may be what is wrong: once more from the first byte.
        yield from _extend(storage, manifest, part, partial)
    partial.replace(target)


def _extend(storage: Storage, manifest: Manifest, part: Part, partial: Path) -> Iterator[int]:
    check = PartCheck(manifest, part)
    with partial.open("a+b") as file:
        file.seek(0)
        for chunk in iter(lambda: file.read(READ_CHUNK_BYTES), b""):
            check.update(chunk)
        yield check.size_bytes
        if check.size_bytes < part.size_bytes:
            for chunk in read_part(storage, manifest, part, check.size_bytes):
                check.update(chunk)
                file.write(chunk)
                yield check.size_bytes
        check.finish()
