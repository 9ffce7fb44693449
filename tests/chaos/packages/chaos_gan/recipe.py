"""A GAN on the digits: what it draws depends on each rank's own random state."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from chaos_witness import Witness
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from chaos_gan.config import Config
from trainyard_trainer.recipe import Batch, Data, Gathered, Loss, Modules, Recipe, Stage
from trainyard_trainer.recipes.classification.data import ImageSamples, find_images
from trainyard_trainer.registry import recipe

SIZE, NOISE = 8, 6
CACHE_BYTES = 2**24


class Gan(Recipe[Config]):
    """Hinge losses; judged by how real the validation images look."""

    config_class = Config
    final_splits = ("validation", "test")

    def build_modules(self) -> dict[str, nn.Module]:
        pixels = SIZE * SIZE
        return {
            "generator": nn.Sequential(
                nn.Linear(NOISE, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, pixels)
            ),
            "discriminator": nn.Sequential(
                nn.Linear(pixels, 16), nn.LeakyReLU(), nn.Dropout(0.1), nn.Linear(16, 1)
            ),
        }

    def build_data(self, stage: Stage) -> Data:
        assert self.site.data_path is not None
        splits = find_images(self.site.data_path, 0).splits
        train, validation, test = (
            ImageSamples(splits[name], SIZE, CACHE_BYTES) for name in ("train", "val", "test")
        )
        return Data(train=train, validation=validation, test=test, augment=blur)

    def build_optimizers(self, stage: Stage, modules: Modules) -> dict[str, Optimizer]:
        rate = self.config.training.learning_rate
        return {
            "discriminator": Adam(modules["discriminator"].parameters(), lr=rate),
            "generator": Adam(modules["generator"].parameters(), lr=rate / 2),
        }

    def losses(self, modules: Modules, batch: Batch) -> Iterator[Loss]:
        generator, discriminator = modules["generator"], modules["discriminator"]
        real = flat(batch[0])
        fake = generator(torch.randn(len(real), NOISE, device=real.device))
        seen = F.relu(1 - discriminator(real)).mean()
        yield Loss("discriminator", seen + F.relu(1 + discriminator(fake.detach())).mean())
        realism = discriminator(fake).mean()
        yield Loss("generator", -realism, {"realism": realism})

    def evaluate_batch(self, modules: Modules, batch: Batch) -> Mapping[str, Any]:
        return {"loss": -modules["discriminator"](flat(batch[0]))[:, 0]}

    def compute_metrics(self, split: str, gathered: Gathered) -> dict[str, float]:
        return {"loss": gathered["loss"].double().mean().item()}


@recipe("chaos-gan")
class ChaosGan(Witness, Gan):
    """Under attack."""


def flat(images: Tensor) -> Tensor:
    """(B, 3, 8, 8) bytes, grey, as (B, 64) from 0 to 1."""
    return images[:, 0].float().flatten(1) / 255


def blur(sample: Any, generator: np.random.Generator) -> Any:
    """Some noise on the pixels."""
    image, label = sample
    noise = torch.from_numpy(generator.integers(0, 30, size=image.shape, dtype=np.uint8))
    return image // 2 + noise, label
