"""Which checkpoints to keep. `plan_retention` is pure; `apply_retention` deletes."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard_trainer.manifest import Best, Manifest, select_best
from trainyard_trainer.storage import Storage


@dataclass(frozen=True)
class Retention:
    """How many checkpoints a run keeps."""

    last: int = 3
    """The newest ones, at least 1."""
    best: Best | None = None
    """The best by this metric is kept beside them; None: no best is kept."""

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(
                f"spec.checkpoint.keepLast: {self.last} keeps nothing; write 1 or more"
            )


def plan_retention(
    manifests: Sequence[Manifest], keep: Retention, *, attempt: int, resumed: str | None
) -> list[Manifest]:
    """The checkpoints to delete, oldest first.

    manifests: newest first. resumed: prefix of the checkpoint that this attempt went on from;
    always kept. A newer attempt's presence means that this process was replaced: delete nothing.
    """
    if any(manifest.attempt > attempt for manifest in manifests):
        return []
    kept = {manifest.prefix for manifest in manifests[: keep.last]} | {resumed}
    if keep.best and (best := select_best(manifests, keep.best.metric, keep.best.mode)):
        kept.add(best.prefix)
    return [manifest for manifest in reversed(manifests) if manifest.prefix not in kept]


def apply_retention(storage: Storage, doomed: Sequence[Manifest]) -> None:
    """Delete manifests before their parts: after a crash no manifest names absent parts."""
    for manifest in doomed:
        storage.delete([manifest.key])
        storage.delete([part.key for part in manifest.parts])
