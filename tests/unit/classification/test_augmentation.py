import numpy as np
import pytest
import torch
from torch import Tensor

from trainyard_trainer.recipes.classification.augmentation import augment_image
from trainyard_trainer.recipes.classification.config import AugmentationConfig


def picture(size: int = 16) -> Tensor:
    return torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(0)).byte()


def augmented(image: Tensor, seed: int = 0, **config: float) -> Tensor:
    return augment_image(image, AugmentationConfig(**config), np.random.default_rng(seed))


def test_no_change_is_configured_unless_asked_for() -> None:
    assert not AugmentationConfig().is_active
    assert torch.equal(augmented(picture()), picture())


def test_a_certain_flip_is_the_mirror_image() -> None:
    assert torch.equal(augmented(picture(), horizontal_flip=1), picture().flip(2))
    assert torch.equal(augmented(picture(), vertical_flip=1), picture().flip(1))


def test_flips_come_as_often_as_configured() -> None:
    image = picture(4)
    flipped = [
        torch.equal(augmented(image, seed, horizontal_flip=0.3), image.flip(2))
        for seed in range(400)
    ]
    assert 0.2 < sum(flipped) / 400 < 0.4


def test_the_same_generator_gives_the_same_image_and_another_seed_another() -> None:
    config = {"rotation_degrees": 20, "translation": 0.1, "scale": 0.1, "contrast": 0.3}
    assert torch.equal(augmented(picture(), 1, **config), augmented(picture(), 1, **config))
    assert not torch.equal(augmented(picture(), 1, **config), augmented(picture(), 2, **config))


def test_switching_one_change_on_leaves_the_others_as_they_were() -> None:
    flips = [
        seed
        for seed in range(20)
        if torch.equal(augmented(picture(), seed, horizontal_flip=0.5), picture().flip(2))
    ]
    bright = [
        seed
        for seed in range(20)
        if torch.equal(
            augmented(picture(), seed, horizontal_flip=0.5, brightness=0.2),
            augmented(picture().flip(2), seed, brightness=0.2),
        )
    ]
    assert flips == bright


@pytest.mark.parametrize(
    "config",
    [
        {"rotation_degrees": 180},
        {"translation": 1},
        {"scale": 0.9},
        {"brightness": 1},
        {"contrast": 1},
    ],
)
def test_every_change_keeps_shape_and_range_and_does_something(config: dict[str, float]) -> None:
    changed = augmented(picture(), **config)
    assert (changed.shape, changed.dtype) == ((3, 16, 16), torch.uint8)
    assert not torch.equal(changed, picture())


def test_a_single_colour_stays_what_it_is_when_moved() -> None:
    plain = torch.full((3, 9, 9), 77, dtype=torch.uint8)
    assert torch.equal(augmented(plain, rotation_degrees=90, translation=0.5, scale=0.5), plain)
