"""A run's results laid out as the guide of its recipe names them."""

import gzip
import importlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.errors import NotFound
from trainyard.locate import StoredRun

if TYPE_CHECKING:
    from trainyard.checkpoints import Catalogue
    from trainyard_trainer.outputs import Kept, Source

_VERSION = "{version}"


def lay_out(run: StoredRun, directory: Path) -> list[Path]:
    """Write everything that is there; returns the files. Raises NotFound before the run's end."""
    from trainyard.checkpoints import read_catalogue
    from trainyard_operator.layout import RESULT_FILE

    if not run.storage.exists(RESULT_FILE):
        raise NotFound(f"'{run.name}' has no result yet", f"trainyard get {run.name}")
    result = json.loads(run.storage.read(RESULT_FILE))
    catalogue = read_catalogue(run)
    written: list[Path] = []
    with tempfile.TemporaryDirectory() as parts:
        for path, source in _plan(result, _kept(catalogue)).items():
            target = directory / _versioned(path, directory, written)
            written += _write(catalogue, source, target, Path(parts))
    return written


def _plan(result: dict[str, Any], kept: "list[Kept]") -> "dict[str, Source]":
    from trainyard_trainer import registry

    module = f"{registry.recipe_package(result['recipe'])}.outputs"
    try:
        found: dict[str, Source] = importlib.import_module(module).outputs(result, kept)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise NotFound(
            f"recipe '{result['recipe']}' has no directory layout of its own",
            f"trainyard fetch {result['job']} --what report",
        ) from error
    return found


def _kept(catalogue: "Catalogue") -> "list[Kept]":
    from trainyard_trainer.outputs import Kept

    return [
        # A checkpoint with metrics ended its epoch, and counts the epochs that are done.
        Kept(one.step, max(0, one.epoch - bool(one.metrics)), one.metrics, tuple(names))
        for one in catalogue.listing.valid
        for names in [catalogue.kept_as(one)]
    ]


def _versioned(path: str, directory: Path, written: list[Path]) -> str:
    """The first version that was not there before this call."""
    if _VERSION not in path:
        return path
    number, mine = 0, {str(file) for file in written}
    head = path.partition(_VERSION)[0]
    while (place := directory / f"{head}{number}").exists():
        if any(file.startswith(f"{place}/") for file in mine):
            break
        number += 1
    return path.replace(_VERSION, str(number))


def _write(catalogue: "Catalogue", source: "Source", path: Path, parts: Path) -> list[Path]:
    """One entry of the plan; what is not stored is left out. parts: for what is downloaded."""
    from trainyard_operator.layout import MODEL_FILE

    storage = catalogue.run.storage
    if source.kind == "folder":
        keys = [entry.key for entry in storage.list(f"{source.value}/")]
        pairs = [(path / Path(key).name, storage.read(key)) for key in keys]
    elif source.kind == "stored":
        pairs = [(path, storage.read(source.value))] if storage.exists(source.value) else []
    elif source.kind == "log":
        pairs = [(path, _log(catalogue.run))]
    elif source.kind == "text":
        pairs = [(path, source.value.encode())]
    else:
        fetched = catalogue.fetch(source.value, parts)
        pairs = [(path, (fetched / MODEL_FILE).read_bytes())]
    for target, data in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return [target for target, _ in pairs]


def _log(run: StoredRun) -> bytes:
    """What rank 0 printed, attempt after attempt."""
    from trainyard_operator.layout import LOGS_PREFIX

    keys = [e.key for e in run.storage.list(f"{LOGS_PREFIX}/") if e.key.split("/")[2] == "rank-0"]
    ordered = sorted(keys, key=lambda key: (int(key.split("/")[1].removeprefix("a")), key))
    return b"".join(gzip.decompress(run.storage.read(key)) for key in ordered)
