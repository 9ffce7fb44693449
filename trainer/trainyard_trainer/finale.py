"""The end of a run: which checkpoint is judged, and what is known of it."""

from dataclasses import dataclass, field

from trainyard_operator.contract import Cause
from trainyard_trainer.distributed import World
from trainyard_trainer.errors import TrainyardError
from trainyard_trainer.manifest import Manifest, best_of, list_manifests
from trainyard_trainer.restore import load_part
from trainyard_trainer.run_state import RunState
from trainyard_trainer.storage import Storage

PREFIXES = {"train": "train", "validation": "val", "test": "test"}
"""Of the metrics of a split."""


class CheckpointNotSaved(TrainyardError):
    """A checkpoint that the run cannot do without did not reach storage."""

    cause = Cause.STORAGE


@dataclass(kw_only=True)
class Outcome:
    """How a run ended."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Of the final splits, as the best model has them, and the last evaluation's."""
    seconds: float = 0.0
    """Of training, over all attempts."""
    step: int = 0
    best_step: int = 0
    """Step of the checkpoint that the final metrics belong to."""


def load_best(storage: Storage, world: World, state: RunState) -> int:
    """Give the modules the best checkpoint's weights, the last one's where none is best.

    They are read back even where memory has them still: so the run proves what it leaves behind.
    Returns the checkpoint's step.
    """
    manifest = world.gang.from_first(lambda: newest_best(storage))
    if manifest is None or manifest.weights is None:
        raise CheckpointNotSaved(f"'{storage.uri}' holds no weights to evaluate.")
    weights = manifest.weights
    state.load_modules(load_part(storage, manifest, weights, world.gang))
    return manifest.step


def newest_best(storage: Storage) -> Manifest | None:
    """The best checkpoint of a run, or its newest."""
    valid = list_manifests(storage).valid
    return best_of(valid) or next(iter(valid), None)
