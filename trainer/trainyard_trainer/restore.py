"""Reading checkpoints back: only bytes that match their manifest ever reach `torch.load`."""

import dataclasses
import io
import json
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from trainyard_operator.contract import (
    CHECKPOINTS_PREFIX,
    LATEST_FILE,
    MODEL_FILE,
    QUARANTINE_PREFIX,
    run_prefix,
)
from trainyard_trainer.gang import Gang
from trainyard_trainer.manifest import (
    Listing,
    Manifest,
    Part,
    PartCheck,
    Rejected,
    best_of,
    list_manifests,
    read_part,
)
from trainyard_trainer.saved import Identity
from trainyard_trainer.shards import merge
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    ManifestInvalid,
    NoValidCheckpoint,
    ObjectMissing,
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in host memory."""

    state: dict[str, Any]
    """What all ranks share, as it was given to `save`."""
    rank_state: dict[str, Any] | None
    """What this rank alone had saved; None where the run had fewer ranks then."""
    manifest: Manifest
    warning: str | None = None
    """What was set aside to get here, as one sentence."""

    def is_elastic(self, world_size: int) -> bool:
        """Whether the number of ranks changed: the run goes on, but not bit by bit."""
        return self.manifest.world_size != world_size


def load_latest(
    storage: Storage, gang: Gang | None = None, owner: Identity | None = None
) -> Loaded | None:
    """The newest checkpoint that every rank could read and verify; None where there never was one.

    owner: whose checkpoints these must be; another run's that was copied here is not used.
    A corrupt one is set aside and the one before it is used. Raises NoValidCheckpoint where
    checkpoints exist and none is usable: nothing is set aside then, so that a restart, too, fails
    instead of starting from step 0.
    """
    gang = gang or Gang()
    listing = gang.from_first(lambda: _survey(storage, owner))
    aside = list(listing.rejected)
    for manifest in listing.valid:
        loaded, problem = _try_on_all(storage, gang, manifest)
        if loaded is not None:
            move = partial(_set_aside, storage, aside, manifest.step)
            return dataclasses.replace(loaded, warning=gang.from_first(move))
        aside.append(Rejected(manifest.key, problem))
    if aside:
        raise NoValidCheckpoint(storage.uri, _newest_first(aside))
    return None


def _survey(storage: Storage, owner: Identity | None) -> Listing:
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


def load_from(storage: Storage, which: str | int, gang: Gang | None = None) -> Loaded:
    """A named checkpoint of another run, whose storage this is; nothing is set aside there.

    which: "latest", "best" (by what that run went by), or a step.
    Raises CheckpointNotFound, CheckpointCorrupt, NoValidCheckpoint.
    """
    gang = gang or Gang()
    manifest = gang.from_first(lambda: find_manifest(storage, which))
    return gang.together(lambda: load_checkpoint(storage, manifest, gang.rank))


def find_manifest(storage: Storage, which: str | int) -> Manifest:
    """The manifest that `which` names; see `load_from`."""
    listing = list_manifests(storage)
    if found := _pick(listing, str(which)):
        return found
    if listing.rejected and not listing.valid:
        raise NoValidCheckpoint(storage.uri, tuple(r.reason for r in listing.rejected))
    raise CheckpointNotFound(storage.uri, str(which))


def _pick(listing: Listing, which: str) -> Manifest | None:
    if which == "latest":
        return next(iter(listing.valid), None)
    if which == "best":
        return best_of(listing.valid)
    return next((m for m in listing.valid if str(m.step) == which), None)


def load_checkpoint(storage: Storage, manifest: Manifest, rank: int = 0) -> Loaded:
    """Read and verify every part, and merge what they share. Raises CheckpointCorrupt."""
    state: dict[str, Any] = {}
    rank_state = None
    for part in manifest.parts:
        content = load_part(storage, manifest, part)
        if part.name == MODEL_FILE:
            state = merge(state, {"model": content})
            continue
        state = merge(state, content["shared"])
        rank_state = content["rank"] if part.rank == rank else rank_state
    return Loaded(state, rank_state, manifest)


def load_part(storage: Storage, manifest: Manifest, part: Part) -> Any:
    """One part, on the CPU; read again once where it differs, for the network may be to blame."""
    try:
        data = _read_verified(storage, manifest, part)
    except CheckpointCorrupt:
        data = _read_verified(storage, manifest, part)
    try:
        return torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:
        problem = f"cannot be loaded ({type(error).__name__})"
        raise CheckpointCorrupt(manifest.step, part.name, problem) from error


def _read_verified(storage: Storage, manifest: Manifest, part: Part) -> io.BytesIO:
    data, check = io.BytesIO(), PartCheck(manifest, part)
    for chunk in read_part(storage, manifest, part):
        check.update(chunk)
        data.write(chunk)
    check.finish()
    data.seek(0)
    return data


def _try_on_all(storage: Storage, gang: Gang, manifest: Manifest) -> tuple[Loaded | None, str]:
    """The checkpoint where all ranks could use it, else the first problem."""
    mine = gang.together(lambda: _try(storage, manifest, gang.rank))
    problems = gang.gather(mine if isinstance(mine, str) else None)
    found = next((problem for problem in problems if problem), "")
    return (None, found) if isinstance(mine, str) or found else (mine, "")


def _try(storage: Storage, manifest: Manifest, rank: int) -> Loaded | str:
    try:
        return load_checkpoint(storage, manifest, rank)
    except CheckpointCorrupt as error:
        return str(error)


def _set_aside(storage: Storage, aside: Sequence[Rejected], step: int) -> str | None:
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
