"""What a recipe's example waits for its data, and its memory: the first two epochs of a rank.

From files drawn as the head of configs/ says, in smaller number: of the same side, so that one
takes as long to read. Images that fit into the recipe's cache are read in the first epoch alone.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.apart import run_apart
from bench.comparison import Comparison

from trainyard_trainer.digits import write_digits
from trainyard_trainer.recipes.csr.synth import write_chests
from trainyard_trainer.recipes.lung_nodule.synth import write_luna
from trainyard_trainer.recipes.mar_gan.synth import Size, write_syndeeplesion
from trainyard_trainer.recipes.skin_lesion.synth import write_lesions

HERE = Path(__file__).resolve().parent
SLICES = Size(side=32, patients=(20, 2), masks=(16, 2))
DRAW: dict[str, Callable[[Path], object]] = {
    "classification": write_digits,
    "skin-lesion": lambda folder: write_lesions(folder, lesions=200, size=64),
    "mar-gan": lambda folder: write_syndeeplesion(folder, SLICES),
    "lung-nodule": lambda folder: write_luna(folder, scans=40),
    "csr": lambda folder: write_chests(folder, train=320, test=20, size=192),
}


@dataclass(frozen=True, kw_only=True)
class Waits:
    """What recipe_run.py found."""

    first: float
    """Per cent of the first epoch's steps that waited for data."""
    later: float
    """Of the second epoch's."""
    memory_mb: float
    """The most of the process; workers have their own."""


def measure_waits(recipe: str, place: Path) -> Iterator[Comparison]:
    """Lines on data and memory of a recipe's example."""
    data = place / "example"
    data.mkdir(parents=True)
    DRAW[recipe](data)
    found = []
    for workers in (0, 1):
        folder = place / f"workers-{workers}"
        folder.mkdir()
        command = [HERE / "recipe_run.py", recipe, data, folder, str(workers)]
        run_apart(command, folder / "run.log", threads=1)
        found.append(Waits(**json.loads((folder / "run.json").read_text())))
    yield from rows_of(recipe, *found)


def rows_of(recipe: str, alone: Waits, helped: Waits) -> Iterator[Comparison]:
    """alone: the rank loads its data itself, as in configs/. helped: a worker does it."""
    yield Comparison(
        what=f"waiting for data, {recipe}",
        ours=[alone.first],
        unit="%",
        note="of the first epoch's steps, whose files are read and decoded by the rank itself, and "
        f"{alone.later:.2g} % of the second's; with num_workers: 1 {helped.first:.2g} % and "
        f"{helped.later:.2g} %",
    )
    yield Comparison(
        what=f"memory of a rank, {recipe}",
        ours=[alone.memory_mb],
        unit="MB",
    )
