"""Where a run left off: the newest checkpoint that all ranks can use, from memory or storage.

Memory is asked first and read where it has what is needed; a part that a rank's node lacks comes
from a node that has it, over the gang, and only what no node has is read from storage. A copy in
memory is believed no more than one in storage: the same digests decide.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trainyard_operator.contract import ExitCode
from trainyard_operator.layout import (
    CHECKPOINTS_PREFIX,
    LATEST_FILE,
    MANIFEST_FILE,
    QUARANTINE_PREFIX,
    run_prefix,
)
from trainyard_trainer.gang import Gang
from trainyard_trainer.landing import Landing, land
from trainyard_trainer.manifest import (
    Listing,
    Manifest,
    Part,
    Rejected,
    list_manifests,
    read_part,
)
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.node_reader import NodeReader
from trainyard_trainer.restore import Assembly, Loaded, land_stored
from trainyard_trainer.saved import Identity
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import (
    CheckpointCorrupt,
    ManifestInvalid,
    NoValidCheckpoint,
    ObjectMissing,
    StorageError,
)


def load_latest(
    storage: Storage,
    gang: Gang | None = None,
    owner: Identity | None = None,
    memory: NodeMemory | None = None,
) -> Loaded | None:
    """The newest checkpoint that every rank could read and verify; None where there never was one.

    owner: whose checkpoints these must be; another run's that was copied here is not used.
    memory: this node's; with it, storage need not answer.
    A corrupt one is set aside and the one before it is used. Raises NoValidCheckpoint where
    checkpoints exist and none is usable: nothing is set aside then, so that a restart, too, fails
    instead of starting from step 0.
    """
    return _Recovery(storage, gang or Gang(), owner, memory).run()


@dataclass(frozen=True)
class _Survey:
    """What rank 0 found in storage."""

    listing: Listing
    trouble: str | None = None
    """Why storage could not be asked."""


@dataclass(frozen=True)
class _Candidate:
    manifest: Manifest
    is_stored: bool
    is_remembered: bool


class _Recovery:
    def __init__(
        self, storage: Storage, gang: Gang, owner: Identity | None, memory: NodeMemory | None
    ) -> None:
        self._storage, self._gang, self._owner, self._memory = storage, gang, owner, memory
        self._reader = NodeReader(self._gang, memory.place if memory else "")
        self._told: list[str] = []
        """What was wrong in memory, on any rank."""

    def run(self) -> Loaded | None:
        remembered = self._remembered()
        survey = self._gang.from_first(lambda: self._survey(is_needed=not remembered))
        aside = list(survey.listing.rejected)
        for candidate in _candidates(survey.listing.valid, remembered):
            loaded, problem = self._try_on_all(candidate)
            if loaded is not None:
                return self._conclude(loaded, candidate, survey, aside)
            if candidate.is_stored:
                aside.append(Rejected(candidate.manifest.key, problem))
            else:
                self._tell(f"{problem} It was not in storage yet.")
        if survey.trouble is not None:
            # Memory was no help, so storage has to be, or has to say why not.
            return load_latest(self._storage, self._gang, self._owner)
        reasons = (*_newest_first(aside), *self._told)
        if reasons:
            raise NoValidCheckpoint(self._storage.uri, reasons)
        return None

    def _remembered(self) -> dict[str, Manifest]:
        """What is complete in any node's memory, by digest."""
        has_memory = self._memory is not None and self._owner is not None
        mine = self._memory.manifests(self._owner) if has_memory else Listing()  # type: ignore
        listings = self._gang.gather(mine)
        for listing in listings:
            for rejected in listing.rejected:
                self._tell(f"{rejected.reason} It lies in the node's memory, and is not used.")
        return {m.digest: m for listing in listings for m in listing.valid}

    def _survey(self, *, is_needed: bool) -> _Survey:
        try:
            return _Survey(_list_own(self._storage, self._owner))
        except StorageError as error:
            if is_needed or error.exit_code == ExitCode.CONFIGURATION:
                raise
            return _Survey(Listing(), str(error))

    def _try_on_all(self, candidate: _Candidate) -> tuple[Loaded | None, str]:
        """The checkpoint where all ranks could use it, else the first problem."""
        manifest = candidate.manifest
        assembly = Assembly(manifest, self._gang.rank)
        try:
            for wave in self._reader.waves(manifest.parts):
                contents = self._load(candidate, wave)
                for part, content in zip(wave, contents, strict=True):
                    assembly.add(part, content)
        except CheckpointCorrupt as error:
            return None, str(error)
        return assembly.loaded(), ""

    def _load(self, candidate: _Candidate, wave: Sequence[Part]) -> list[Any]:
        """Raises CheckpointCorrupt, on every rank the same."""
        manifest = candidate.manifest
        found = self._from_memory(manifest, wave) if candidate.is_remembered else {}

        def fetch(part: Part) -> Landing:
            if part.name in found:
                return found.pop(part.name)
            if not candidate.is_stored:
                raise CheckpointCorrupt(manifest.step, part.name, "is gone with its node's memory")
            return land_stored(self._storage, manifest, part)

        try:
            return self._reader.load(manifest, wave, fetch)
        finally:
            for landing in found.values():
                landing.close()

    def _from_memory(self, manifest: Manifest, wave: Sequence[Part]) -> dict[str, Landing]:
        """What some node has of the parts that this rank is to read, by name."""
        found: dict[str, Landing] = {}
        told: list[str] = []
        mine = self._reader.own(wave)
        for part in mine:
            landing, problem = self._own(manifest, part)
            if landing is not None:
                found[part.name] = landing
            told += [problem] if problem else []
        answers = self._gang.gather((sorted(found), told))
        for sentence in (sentence for _, sentences in answers for sentence in sentences):
            self._tell(sentence)
        for part in wave:
            holders = [rank for rank, (names, _) in enumerate(answers) if part.name in names]
            if holders and len(holders) < self._reader.nodes:
                held = found[part.name].read() if part.name in found else None
                sent = self._gang.spread(held, holders[0], part.size_bytes)
                if part in mine and held is None:
                    with suppress(CheckpointCorrupt):
                        found[part.name] = land(manifest, part, [sent])
        return found

    def _own(self, manifest: Manifest, part: Part) -> tuple[Landing | None, str | None]:
        try:
            if self._memory is not None and self._memory.storage.exists(part.key):
                return land(manifest, part, read_part(self._memory.storage, manifest, part)), None
        except (CheckpointCorrupt, StorageError) as error:
            return None, f"{error} That copy is in a node's memory; another one was used."
        return None, None

    def _conclude(
        self, loaded: Loaded, candidate: _Candidate, survey: _Survey, aside: Sequence[Rejected]
    ) -> Loaded:
        step = candidate.manifest.step
        if survey.trouble is None:
            self._tell(
                self._gang.from_first(lambda: set_aside(self._storage, aside, step)), first=True
            )
            stored = next(iter(survey.listing.valid), None)
        else:
            self._tell(f"Resuming from step {step}, out of the nodes' memory: {survey.trouble}")
            stored = None
        return dataclasses.replace(
            loaded,
            warning=" ".join(self._told) or None,
            stored=candidate.manifest if candidate.is_stored else stored,
            is_remembered=candidate.is_remembered,
        )

    def _tell(self, sentence: str | None, *, first: bool = False) -> None:
        if sentence and sentence not in self._told:
            self._told.insert(0 if first else len(self._told), sentence)


def _candidates(stored: Sequence[Manifest], remembered: Mapping[str, Manifest]) -> list[_Candidate]:
    """Newest first."""
    found = {m.digest: _Candidate(m, True, m.digest in remembered) for m in stored}
    for digest, manifest in remembered.items():
        found.setdefault(digest, _Candidate(manifest, False, True))
    return sorted(
        found.values(),
        key=lambda c: (c.manifest.step, c.manifest.attempt, c.is_stored),
        reverse=True,
    )


def _list_own(storage: Storage, owner: Identity | None) -> Listing:
    """All manifests; another run's are rejected, and so is a hint at one that is not there."""
    listing = list_manifests(storage)
    strangers = [m for m in listing.valid if owner is not None and not owner.owns(m)]
    rejected = [*listing.rejected, *map(_stranger, strangers)]
    known = {m.key for m in listing.valid} | {r.key for r in listing.rejected}
    if hint := _vain_hint(storage, known):
        rejected.append(hint)
    if not known and not rejected:
        rejected += _set_aside_before(storage)
    own = tuple(manifest for manifest in listing.valid if manifest not in strangers)
    return Listing(own, tuple(rejected))


def _stranger(manifest: Manifest) -> Rejected:
    run = run_prefix(manifest.namespace, manifest.job, manifest.uid)
    problem = ManifestInvalid(manifest.key, f"it is of another run, '{run}'")
    return Rejected(manifest.key, str(problem))


def _set_aside_before(storage: Storage) -> list[Rejected]:
    """Of a run that has no manifest left: that it had one is no reason to begin anew."""
    entries = storage.list(f"{QUARANTINE_PREFIX}/")
    keys = [entry.key for entry in entries if entry.key.endswith(f"/{MANIFEST_FILE}")]
    return [Rejected(key, f"'{key}' was set aside, and no other is left.") for key in keys]


def _vain_hint(storage: Storage, known: Set[str]) -> Rejected | None:
    """It is written after its manifest, so it tells of a manifest that got lost later."""
    try:
        named = json.loads(storage.read(LATEST_FILE))["manifest"]
    except ObjectMissing:
        return None
    except (ValueError, TypeError, KeyError):
        return Rejected(LATEST_FILE, f"'{LATEST_FILE}' cannot be read.")
    if isinstance(named, str) and named in known:
        return None
    return Rejected(LATEST_FILE, f"'{LATEST_FILE}' names '{named}', which is not there.")


def set_aside(storage: Storage, aside: Sequence[Rejected], step: int) -> str | None:
    """Move the manifests of unusable checkpoints away; the parts stay for whoever looks into it."""
    if not aside:
        return None
    for rejected in aside:
        with suppress(ObjectMissing):
            kept = QUARANTINE_PREFIX + rejected.key.removeprefix(CHECKPOINTS_PREFIX)
            storage.write(kept, storage.read(rejected.key))
            storage.delete([rejected.key])
    storage.delete([LATEST_FILE])  # It may name what is gone now; the next save writes it again.
    return f"{_newest_first(aside)[0]} Set aside; resuming from step {step}."


def _newest_first(aside: Sequence[Rejected]) -> tuple[str, ...]:
    return tuple(r.reason for r in sorted(aside, key=lambda r: r.key, reverse=True))
