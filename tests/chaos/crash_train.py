r"""A training program for the package ckpt-chaos, which kills it at every file operation of a save.

    .venv/bin/uvx ckpt-chaos run --max-points 400 --modes before,torn,term,unsynced \
        --step-regex "Resuming from step (\d+)" --result-file "{out}/final.txt" -- \
        .venv/bin/python tests/chaos/crash_train.py {out}

The engine trains a small network with a checkpoint every three steps, below {out}. The result is a
digest of the last checkpoint: weights, optimizer, schedule, generators and the rest. With --ranks 2
every rank runs this file.
"""

import dataclasses
import hashlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from chaos.compare import TIMES
from unit.engine.tiny import manifests_of, storage_of, tiny_rank

from trainyard_trainer import compiler_stub, files
from trainyard_trainer.context import Rank, StorageLocation
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.restore import load_checkpoint
from trainyard_trainer.worker import run_rank

CONFIG = {"training": {"epochs": 2, "schedule": {"name": "cosine"}, "ema_decay": 0.9}}
SAVING = {"everySteps": 3, "keepLast": 2, "async": False}


def main(out: Path) -> int:
    """Trains to the end, from wherever it was left."""
    compiler_stub.install()
    # The tool tells operations apart by the names of files, and those of temporary ones are random.
    numbers = itertools.count()
    files.uuid4 = lambda: SimpleNamespace(hex=f"{next(numbers):032x}")  # type: ignore[assignment]
    rank = this_rank(out)
    try:
        code = run_rank(rank)
    except TrainyardError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    if rank.is_first:
        (out / "final.tmp").write_text(digest(rank))
        (out / "final.tmp").replace(out / "final.txt")
    return code


def this_rank(out: Path) -> Rank:
    """As torchrun names it; what is not to be attacked lies beside `out`."""
    index, world, port = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_PORT", "0"))
    )
    place = out.parent / f"rank-{index}"
    place.mkdir(exist_ok=True)
    attempt = len(list(place.glob("scratch-*"))) + 1
    rank = tiny_rank(
        place, attempt=attempt, gang=(world, index, port), config=CONFIG, checkpoint=SAVING
    )
    store = StorageLocation(uri=out.as_uri(), endpoint=None, region=None, compat="aws")
    return Rank(run=dataclasses.replace(rank.run, storage=store), local_rank=0)


def digest(rank: Rank) -> str:
    """Of all that the last checkpoint holds, times left out."""
    found = hashlib.sha256()
    manifest = manifests_of(rank)[0]
    for index in range(rank.run.world_size):
        loaded = load_checkpoint(storage_of(rank), manifest, index)
        for path, value in leaves([loaded.state, loaded.rank_state]):
            found.update(f"{path} {value}\n".encode())
    return found.hexdigest()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every value with its path, tensors as their bytes."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in TIMES:
                yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    elif isinstance(value, torch.Tensor):
        yield path, value.numpy().tobytes().hex()
    else:
        yield path, repr(value)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)
