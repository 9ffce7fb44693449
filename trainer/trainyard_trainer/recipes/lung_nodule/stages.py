"""The stage plan: growing patches, large nodules first and a frozen encoder, laid over one another.

Each of the three cuts the run's epochs in parts; a stage is where none of them changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_trainer.recipe import Stage
from trainyard_trainer.recipes.lung_nodule.config import Config
from trainyard_trainer.schedule import Schedule, Shape


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some epochs with something set."""

    epochs: int
    label: str
    settings: dict[str, Any]


def plan(config: Config, trainable_when_frozen: tuple[str, ...]) -> list[Stage]:
    """Stages in order; one called `train` where nothing changes.

    The epochs of progressive and curriculum stages replace training.epochs; the shorter plan's last
    part goes on to the end of the longer. trainable_when_frozen: what learns while the encoder does
    not.
    """
    tracks = [_progressive(config), _curriculum(config)]
    total = max((sum(part.epochs for part in track) for track in tracks if track), default=0)
    total = total or config.training.epochs
    tracks.append(_frozen(config, total, trainable_when_frozen))
    tracks = [track for track in tracks if track]
    ends = {total}
    for track in tracks:
        ends |= {end for end in _ends(track)[:-1] if end < total}
    stages, first = [], 0
    for number, end in enumerate(sorted(ends), start=1):
        parts = [_at(track, first) for track in tracks]
        label = "-".join([str(number), *(part.label for part in parts if part.label)])
        name = label if len(ends) > 1 else "train"  # As other recipes call their only one.
        stages.append(_stage(config, name, (first, end, total), parts))
        first = end
    return stages


def _stage(config: Config, name: str, span: tuple[int, int, int], parts: Sequence[_Part]) -> Stage:
    first, end, total = span
    training = config.training
    settings: dict[str, Any] = {"patch_size": config.data.patch_size, "min_diameter": 0.0}
    for part in parts:
        settings |= part.settings
    batch_size = settings.pop("batch_size", None) or training.batch_size
    trainable = settings.pop("trainable", None)
    return Stage(
        name=name,
        epochs=end - first,
        batch_size=batch_size * training.accumulation_steps,
        micro_batch_size=training.micro_batch_size or batch_size,
        trainable=trainable,
        options=settings | {"first_epoch": first, "total_epochs": total},
    )


def _progressive(config: Config) -> list[_Part]:
    progressive = config.training.progressive
    if progressive is None or not progressive.enabled:
        return []
    return [
        _Part(
            epochs=one.epochs,
            label="x".join(map(str, one.patch_size)),
            settings={"patch_size": one.patch_size, "batch_size": one.batch_size},
        )
        for one in progressive.stages
    ]


def _curriculum(config: Config) -> list[_Part]:
    curriculum = config.training.curriculum
    if curriculum is None or not curriculum.enabled:
        return []
    return [
        _Part(
            epochs=one.epochs,
            label=f"from{one.min_diameter:g}mm",
            settings={"min_diameter": one.min_diameter},
        )
        for one in curriculum.stages
    ]


def _frozen(config: Config, total: int, trainable: tuple[str, ...]) -> list[_Part]:
    pretrained = config.training.pretrained
    if pretrained is None or not pretrained.freeze_encoder:
        return []
    frozen = min(pretrained.freeze_epochs, total)
    settings = {"trainable": trainable, "is_frozen": True}
    free = _Part(epochs=total - frozen, label="", settings={})
    return [_Part(epochs=frozen, label="frozen", settings=settings), free]


def _ends(track: Sequence[_Part]) -> list[int]:
    ends, at = [], 0
    for part in track:
        at += part.epochs
        ends.append(at)
    return ends


def _at(track: Sequence[_Part], epoch: int) -> _Part:
    """What holds in an epoch; the last part goes on."""
    for part, end in zip(track, _ends(track), strict=True):
        if epoch < end:
            return part
    return track[-1]


class Continued(Schedule):
    """A stage's share of a schedule that runs over all stages."""

    def __init__(self, whole: Shape, first_epoch: int, steps_per_epoch: int) -> None:
        self._whole, self._before = whole, first_epoch * steps_per_epoch

    def factor(self, step: int) -> float:
        """Of the step as if all epochs before had been as long as this stage's."""
        return self._whole.factor(step + self._before)
