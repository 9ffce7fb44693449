"""Find a trained model: that of a job, of a run's URI, or of a fetched checkpoint; verified."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import CheckpointMissing, NotFound
from trainyard.options import Settings, StorageFlags
from trainyard_operator.layout import MANIFEST_FILE, MODEL_FILE

if TYPE_CHECKING:
    from trainyard.locate import StoredRun
    from trainyard_trainer.card import Card
    from trainyard_trainer.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is needed to use it."""

    card: "Card"
    weights: Path
    """A file whose bytes have the SHA-256 of the checkpoint's manifest."""


def find_model(
    settings: Settings, source: str, which: str, flags: StorageFlags, folder: Path
) -> Model:
    """source: a job's name, the s3:// or file:// URI of a run, or a fetched checkpoint: its folder
    or the model.pt in it.

    which: best, latest or a step, where there are several. folder: for what has to be downloaded.
    Raises NotFound, CheckpointMissing, Unreachable.
    """
    path = Path(source)
    if path.name == MODEL_FILE or (path / MANIFEST_FILE).is_file():
        return _fetched(path if path.name == MODEL_FILE else path / MODEL_FILE)
    return _stored(_run(settings, source, flags), which, folder)


def _run(settings: Settings, source: str, flags: StorageFlags) -> "StoredRun":
    from trainyard.locate import StoredRun, locate

    if "://" not in source:
        return locate(settings, source, flags, "predict")
    from trainyard_trainer.storage import open_storage

    storage = open_storage(source, endpoint=flags.endpoint, region=flags.region)
    return StoredRun(name=source, uid="", storage=storage)


def _stored(run: "StoredRun", which: str, folder: Path) -> Model:
    from trainyard.checkpoints import read_catalogue
    from trainyard_trainer.card import CARD_FILE, read_card

    fetched = read_catalogue(run).fetch(which, folder)
    if not (fetched / CARD_FILE).is_file():
        raise NotFound(
            f"'{run.name}' has stored no {CARD_FILE}: it is older than this command",
            f"trainyard fetch {run.name}",
        )
    card = read_card((fetched / CARD_FILE).read_bytes(), f"{run.storage.uri}/{CARD_FILE}")
    return Model(card=card, weights=fetched / MODEL_FILE)


def _fetched(weights: Path) -> Model:
    from trainyard_trainer.card import CARD_FILE, read_card

    for name, file in ((one, weights.with_name(one)) for one in (MANIFEST_FILE, CARD_FILE)):
        if not file.is_file():
            raise NotFound(
                f"there is no {name} beside '{weights}'", "trainyard fetch JOB, into a new folder"
            )
    manifest = weights.with_name(MANIFEST_FILE)
    verify_file(weights, _read_manifest(manifest))
    card = weights.with_name(CARD_FILE)
    return Model(card=read_card(card.read_bytes(), str(card)), weights=weights)


def _read_manifest(file: Path) -> "Manifest":
    from trainyard_trainer.manifest import Manifest
    from trainyard_trainer.storage_errors import ManifestInvalid

    try:
        return Manifest.from_json(file.read_bytes(), str(file))
    except ManifestInvalid as error:
        raise CheckpointMissing(str(error).rstrip("."), "trainyard fetch JOB") from error


def verify_file(weights: Path, manifest: "Manifest") -> None:
    """Compare a file with the digest of its checkpoint. Raises CheckpointMissing naming it."""
    from trainyard_trainer.manifest import PartCheck
    from trainyard_trainer.storage import READ_CHUNK_BYTES
    from trainyard_trainer.storage_errors import CheckpointCorrupt

    part = manifest.weights
    if part is None or not weights.is_file():
        raise CheckpointMissing(f"there is no '{weights}'", "trainyard fetch JOB")
    check = PartCheck(manifest, part)
    try:
        with weights.open("rb") as file:
            for chunk in iter(lambda: file.read(READ_CHUNK_BYTES), b""):
                check.update(chunk)
        check.finish()
    except CheckpointCorrupt as error:
        raise CheckpointMissing(
            f"'{weights}' {error.problem}", "trainyard fetch JOB, into a new folder"
        ) from error
