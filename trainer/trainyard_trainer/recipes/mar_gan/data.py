"""Batches of artefact and metal-free images: random patches to train on, whole images to judge.

Nothing is opened before a batch needs it. A file that cannot be used stops the run or, with
data.on_bad_file: skip, another one takes its place in training, and evaluation counts it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainyard_trainer.bad_data import BadData
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.mar_gan.layouts import Scene
from trainyard_trainer.recipes.mar_gan.reading import BadFile, Pixels
from trainyard_trainer.sampler import sample_generator

MOST_TRIES = 20
"""Files in a row that may be bad before training stops all the same."""


class TrainBatch(NamedTuple):
    """Patches, (B, 1, S, S) in [-1, 1]."""

    artefact: Tensor
    target: Tensor
    skipped: Tensor
    """(B,): bad files that were passed over for this patch."""


class EvaluationBatch(NamedTuple):
    """Whole images, (B, 1, H, W) in [-1, 1]."""

    artefact: Tensor
    target: Tensor
    interpolated: Tensor
    """NaN where the data set has none."""
    metal: Tensor
    """0 or 1: the data set's mask, or what exceeds the threshold where it has none."""
    number: Tensor
    """(B,): of the image in its split."""
    is_good: Tensor
    """(B,): 0 where a file is bad, and the images mean nothing."""


class Images(NamedTuple):
    """One sample, (H, W) each."""

    artefact: Pixels
    target: Pixels
    interpolated: Pixels | None = None
    metal: Pixels | None = None


class Cache:
    """Decoded images, kept until they fill a number of bytes."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes
        self._kept: dict[object, Pixels] = {}

    def get(self, key: object, read: Callable[[], Pixels]) -> Pixels:
        """The kept image, or the one that is read."""
        if key in self._kept:
            return self._kept[key]
        pixels = read()
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._kept[key] = pixels
        return pixels


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How scenes are read."""

    cache: Cache
    bad: BadData
    """Decides whether bad files are passed over, and knows those that were."""

    def meet(self, error: BadFile) -> None:
        """Stop, or take note of a file the first time. Raises ConfigurationError."""
        if str(error) not in self.bad.skipped:
            self.bad.meet(str(error))

    def pair(self, scene: Scene, number: int) -> Images:
        """Artefact and target. Raises BadFile."""
        artefact_key = (scene.artefacts[number], "ma")
        artefact = self.cache.get(artefact_key, lambda: scene.read_artefact(number))
        target = self.cache.get(scene.target, scene.read_target)
        if artefact.shape != target.shape:
            sides = "{}x{}".format(*artefact.shape), "{}x{}".format(*target.shape)
            raise BadFile(
                scene.artefacts[number], f"is {sides[0]}, and '{scene.target}' is {sides[1]}"
            )
        return Images(artefact, target)

    def whole(self, scene: Scene, number: int) -> Images:
        """The pair, the interpolated image and the mask, where there are any. Raises BadFile."""
        pair = self.pair(scene, number)
        return pair._replace(
            interpolated=scene.read_interpolated(number),
            metal=scene.read_metal(number, pair.target.shape),
        )


class TrainPatches:
    """Each epoch shows `per_slice` artefact images of every slice, other ones each time."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        reading: Reading,
        *,
        side: int,
        per_slice: int | None,
        seed: int,
    ) -> None:
        """side: of the patches. per_slice: None means all; where a slice has fewer, they repeat."""
        self.scenes, self.reading, self.side, self.seed = scenes, reading, side, seed
        self.per_slice = per_slice or max(len(scene.artefacts) for scene in scenes)

    def __len__(self) -> int:
        """Patches in an epoch."""
        return len(self.scenes) * self.per_slice

    def __getitem__(self, index: int) -> TrainBatch:
        """The first epoch's patch, as a batch of one."""
        return self.batch(torch.tensor([index]), 0)

    def batch(self, indices: Tensor, epoch: int) -> TrainBatch:
        """A function of seed, epoch and index: the same on any rank, in any worker."""
        patches = [self._patch(index, epoch) for index in indices.tolist()]
        artefacts, targets, skipped = zip(*patches, strict=True)
        return TrainBatch(
            _stack(artefacts), _stack(targets), torch.tensor(skipped, dtype=torch.float32)
        )

    def _patch(self, index: int, epoch: int) -> tuple[Pixels, Pixels, int]:
        rng = sample_generator(self.seed, epoch, index)
        for skipped in range(MOST_TRIES):
            slice_, turn = divmod(index, self.per_slice)
            scene = self.scenes[(slice_ + skipped) % len(self.scenes)]
            order = sample_generator(self.seed, epoch, slice_).permutation(len(scene.artefacts))
            try:
                images = self.reading.pair(scene, int(order[turn % len(order)]))
            except BadFile as error:
                self.reading.meet(error)
                continue
            return *self._cut(images, scene, rng), skipped
        raise ConfigurationError(
            f"data: {MOST_TRIES} files in a row are bad, the last of them "
            f"'{scene.target}'; write data.on_bad_file: stop to see why."
        )

    def _cut(self, images: Images, scene: Scene, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        height, width = images.target.shape
        if min(height, width) < self.side:
            raise ConfigurationError(
                f"data.patch_size: '{scene.target}' is {height}x{width}; write at most "
                f"{min(height, width)}."
            )
        top = int(rng.integers(height - self.side + 1))
        left = int(rng.integers(width - self.side + 1))
        window = slice(top, top + self.side), slice(left, left + self.side)
        return images.artefact[window], images.target[window]


class WholeImages:
    """A split to judge by: up to `per_slice` artefact images of every slice, the same each time."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        reading: Reading,
        *,
        per_slice: int | None,
        threshold: float,
    ) -> None:
        """per_slice: None means all. threshold: of metal, where the data set has no masks."""
        self.reading, self.threshold = reading, threshold
        self.items = [
            (scene, (number + index) % len(scene.artefacts))
            for index, scene in enumerate(scenes)
            for number in range(min(per_slice or len(scene.artefacts), len(scene.artefacts)))
        ]

    def __len__(self) -> int:
        """Images."""
        return len(self.items)

    def __getitem__(self, index: int) -> EvaluationBatch:
        """A batch of one."""
        return self.batch(torch.tensor([index]), 0)

    def batch(self, indices: Tensor, epoch: int) -> EvaluationBatch:
        """Images of one size. Raises ConfigurationError for a mixture, and for a bad file."""
        found = [self._read(index) for index in indices.tolist()]
        good = next((images for images in found if images is not None), None)
        empty = _empty(good)
        images = [one or empty for one in found]
        self._refuse_mixture(indices.tolist(), images)
        return EvaluationBatch(
            artefact=_stack([one.artefact for one in images]),
            target=_stack([one.target for one in images]),
            interpolated=_stack([_or_nan(one.interpolated, one) for one in images]),
            metal=_stack([self._metal(one) for one in images]),
            number=indices,
            is_good=torch.tensor([one is not None for one in found], dtype=torch.float32),
        )

    def name(self, index: int) -> str:
        """What tells one image from the others."""
        scene, number = self.items[index]
        file = scene.artefacts[number]
        parts = file.parts[-1:] if scene.is_hounsfield else file.parts[-3:]
        return "/".join(parts)

    def _read(self, index: int) -> Images | None:
        try:
            return self.reading.whole(*self.items[index])
        except BadFile as error:
            self.reading.meet(error)
            return None

    def _metal(self, images: Images) -> Pixels:
        if images.metal is not None:
            return images.metal
        return (images.artefact > self.threshold).astype(np.float32)

    def _refuse_mixture(self, indices: list[int], images: list[Images]) -> None:
        first = images[0].target.shape
        for index, one in zip(indices, images, strict=True):
            if one.target.shape != first:
                sides = "{}x{}".format(*one.target.shape), "{}x{}".format(*first)
                raise ConfigurationError(
                    f"data: '{self.items[index][0].target}' is {sides[0]} beside images of "
                    f"{sides[1]}; write training.evaluation_batch_size: 1."
                )


def _empty(like: Images | None) -> Images:
    shape = (64, 64) if like is None else like.target.shape
    blank = np.full(shape, -1.0, dtype=np.float32)
    return Images(blank, blank, blank, np.zeros(shape, dtype=np.float32))


def _or_nan(pixels: Pixels | None, like: Images) -> Pixels:
    return np.full_like(like.target, np.nan) if pixels is None else pixels


def _stack(images: Sequence[Pixels]) -> Tensor:
    """(B, 1, H, W)."""
    return torch.from_numpy(np.stack(images))[:, None]
