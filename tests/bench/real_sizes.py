"""One optimizer step of each recipe's network at the size that its guide asks for.

The machine's GPU where there is one, else all its cores. Each step is the first of a run of the
engine, in a process of its own, on noise or drawings of real size with random weights; what it
takes does not depend on either. Weights are not downloaded.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import yaml
from bench.apart import run_apart
from bench.comparison import Absent, Comparison, Row
from nodule_scans import write_luna
from skin_images import write_set
from unit.mar_gan.slices import write_syndeeplesion

from trainyard_trainer.recipes.classification.synth import write_shapes
from trainyard_trainer.recipes.csr.synth import write_chests
from trainyard_trainer.recipes.lung_nodule.grid import Grid

CT = Grid(shape=(136, 136, 136), spacing=(1.0, 0.7, 0.7), origin=(-300.0, -150.0, 90.5))
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Size:
    """A recipe's configuration at the size of its guide."""

    recipe: str
    what: str
    """The network and its input."""
    config: dict[str, Any]
    write: Callable[[Path], object]
    """A data set of that size, into a folder."""
    note: str = ""
    """Where the guide has it otherwise."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What real_size_step.py found."""

    seconds: float
    cpu_seconds: float
    """Of all threads."""
    memory_mb: float
    """The most: of the process, or of tensors on a GPU."""
    samples: int
    device: str


def write_slices(folder: Path) -> object:
    """Noise as large as SynDeepLesion's slices."""
    return write_syndeeplesion(folder, patients=4, slices=1, side=416)


SIZES = (
    Size(
        recipe="classification",
        what="ResNet-18, 224x224",
        write=lambda folder: write_shapes(folder, images_per_class=20, size=256),
        config={"model": {"architecture": "resnet18"}},
    ),
    Size(
        recipe="skin-lesion",
        what="EfficientNet-B3, 300x300",
        write=lambda folder: write_set(folder, lesions=20),
        config={
            "model": {"name": "efficientnet", "variant": "b3"},
            "data": {"image_size": 300, "batch_size": 16},
        },
    ),
    Size(
        recipe="csr",
        what="ViT-B/16, 224x224",
        write=lambda folder: write_chests(folder, train=40, test=12, size=224),
        config={"model": {"backbone": "vit"}},
        note="the first of three stages, the only one that trains the backbone",
    ),
    Size(
        recipe="mar-gan",
        what="NGswin and three PatchGANs, 128x128",
        write=write_slices,
        config={"training": {"batch_size": 4}},
    ),
    Size(
        recipe="mar-gan",
        what="NGswin and three PatchGANs, 416x416",
        write=write_slices,
        config={
            "data": {"patch_size": 416},
            "model": {"generator": {"recompute": True}},
            "training": {"batch_size": 1},
        },
        note="whole slices where the guide cuts 128x128 out; model.generator.recompute is on",
    ),
    Size(
        recipe="lung-nodule",
        what="3-D U-Net, 128x128x128",
        write=lambda folder: write_luna(folder, grid=CT),
        config={
            "data": {"train_subsets": [0], "val_subsets": [1], "test_subsets": [2]},
            "model": {"use_dropout": True},
            "training": {"batch_size": 2, "hard_negative_mining": {"enabled": True}},
        },
        note="the guide adds up four such batches for a step",
    ),
)
"""The quickest first."""


def compare_real_sizes(count: int = len(SIZES)) -> Iterator[Row]:
    """Two lines for each of the first `count` sizes: seconds of a step, and memory."""
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as name:
        for number, size in enumerate(SIZES[:count]):
            print(f"  {size.recipe}: {size.what}", file=sys.stderr)
            try:
                step = measure(size, Path(name) / str(number))
            except (RuntimeError, TimeoutExpired) as error:
                print(error, file=sys.stderr)
                reason = str(error).partition(":\n")[0]
                yield Absent(what=f"{size.recipe}: {size.what}", note=reason, is_kept=False)
            else:
                yield from rows_of(size, step)


def measure(size: Size, place: Path) -> Step:
    """A process that makes one step. Raises RuntimeError and TimeoutExpired."""
    data, configuration = place / "data", place / "config.yaml"
    data.mkdir(parents=True)
    size.write(data)
    configuration.write_text(yaml.safe_dump(size.config))
    command = [HERE / "real_size_step.py", size.recipe, configuration, data, place]
    run_apart(command, place / "step.log")
    return Step(**json.loads((place / "step.json").read_text()))


def rows_of(size: Size, step: Step) -> Iterator[Comparison]:
    """Its time and its memory."""
    name = f"{size.recipe}: {size.what}, batch of {step.samples}"
    wall, cpu = (f"{step.samples / one:.3g}" for one in (step.seconds, step.cpu_seconds))
    pace = f"{wall} samples a second on {step.device}, {cpu} a second of CPU time"
    note = "; ".join(filter(None, (pace, f"{step.cpu_seconds:.3g} s of CPU time", size.note)))
    yield Comparison(what=name, ours=[step.seconds], note=note)
    yield Comparison(what=f"{name}: most memory", ours=[step.memory_mb], unit="MB")
