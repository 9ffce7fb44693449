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
from functools import partial
from typing import Any

from trainyard_operator.contract import (
    CHECKPOINTS_PREFIX,
    LATEST_FILE,
    QUARANTINE_PREFIX,
    ExitCode,
    run_prefix,
)
from trainyard_trainer.gang import Gang
from trainyard_trainer.manifest import Listing, Manifest, Part, PartCheck, Rejected, list_manifests
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.restore import Assembly, Loaded, load_part, parse_part, read_verified
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
        assembly = Assembly(candidate.manifest, self._gang.rank)
        for part in candidate.manifest.parts:
            mine = self._gang.together(partial(self._content, candidate, part))
            corrupt = mine if isinstance(mine, CheckpointCorrupt) else None
            problems = self._gang.gather(str(corrupt) if corrupt else None)
            if found := next((problem for problem in problems if problem), None):
                return None, found
            assembly.add(part, mine)
        return assembly.loaded(), ""

    def _content(self, candidate: _Candidate, part: Part) -> Any:
        """What a part holds, or why it cannot be used."""
        manifest = candidate.manifest
        data = self._from_memory(manifest, part) if candidate.is_remembered else None
        try:
            if data is not None:
                return parse_part(manifest, part, data)
            if not candidate.is_stored:
                raise CheckpointCorrupt(manifest.step, part.name, "is gone with its node's memory")
            return load_part(self._storage, manifest, part)
        except CheckpointCorrupt as error:
            return error

    def _from_memory(self, manifest: Manifest, part: Part) -> bytes | None:
        """A part that some node has, on every rank; None where none has it whole."""
        mine, problem = self._own(manifest, part)
        answers = self._gang.gather((mine is not None, problem))
        for _, told in answers:
            self._tell(told)
        holders = [rank for rank, (has, _) in enumerate(answers) if has]
        if not holders:
            return None
        if len(holders) < self._gang.world_size:
            sent = self._gang.spread(mine, holders[0], part.size_bytes)
            mine = sent if mine is None and _is_whole(manifest, part, sent) else mine
        return mine

    def _own(self, manifest: Manifest, part: Part) -> tuple[bytes | None, str | None]:
        try:
            if self._memory is not None and self._memory.storage.exists(part.key):
                return read_verified(self._memory.storage, manifest, part), None
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


def _is_whole(manifest: Manifest, part: Part, data: bytes) -> bool:
    check = PartCheck(manifest, part)
    try:
        check.update(data)
        check.finish()
    except CheckpointCorrupt:
        return False
    return True


def _list_own(storage: Storage, owner: Identity | None) -> Listing:
    """All manifests; another run's are rejected, and so is a hint at one that is not there."""
    listing = list_manifests(storage)
    strangers = [m for m in listing.valid if owner is not None and not owner.owns(m)]
    rejected = [*listing.rejected, *map(_stranger, strangers)]
    known = {m.key for m in listing.valid} | {r.key for r in listing.rejected}
    if hint := _vain_hint(storage, known):
        rejected.append(hint)
    own = tuple(manifest for manifest in listing.valid if manifest not in strangers)
    return Listing(own, tuple(rejected))


def _stranger(manifest: Manifest) -> Rejected:
    run = run_prefix(manifest.namespace, manifest.job, manifest.uid)
    problem = ManifestInvalid(manifest.key, f"it is of another run, '{run}'")
    return Rejected(manifest.key, str(problem))


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
