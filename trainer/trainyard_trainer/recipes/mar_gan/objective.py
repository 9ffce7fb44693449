"""The generator's and the discriminator's loss as configured: each part, its weight, their sum."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from trainyard_trainer.recipes.mar_gan import losses
from trainyard_trainer.recipes.mar_gan.config import MarTrainingConfig
from trainyard_trainer.recipes.mar_gan.discriminator import Verdict

Verdicts = Sequence[Verdict]


class Objective:
    """What is minimised."""

    def __init__(self, training: MarTrainingConfig, project: nn.Module) -> None:
        self.weights, self._metal_aware = training.loss_weights, training.metal_aware
        self._project = project
        self._is_hinge = training.adversarial_loss == "hinge"

    def discriminator(self, real: Verdicts, fake: Verdicts) -> Tensor:
        """A scalar; `fake` is of detached images."""
        judge = losses.hinge_discriminator if self._is_hinge else losses.bce_discriminator
        return judge(real, fake)

    def image_parts(self, artefact: Tensor, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The parts that need no discriminator, by name, unweighted; those with weight 0 are left
        out. Images are (B, 1, H, W) in [-1, 1]."""
        aware = self._metal_aware
        metal = losses.metal_mask(artefact, aware.threshold)
        band = losses.dilate(metal, aware.dilation_radius)
        weights = losses.pixel_weights(band, aware.beta_weight, aware.w_max)
        parts: dict[str, Callable[[], Tensor]] = {
            "mse": lambda: F.mse_loss(fake, real),
            "reconstruction": lambda: losses.reconstruction_loss(fake, real, weights),
            "edge": lambda: losses.edge_loss(fake, real, weights),
            "metal_consistency": lambda: losses.metal_consistency_loss(fake, real, metal),
            "physics": lambda: losses.physics_loss(fake, real, metal, self._project),
        }
        return {name: part() for name, part in parts.items() if getattr(self.weights, name)}

    def adversarial_parts(self, real: Verdicts, fake: Verdicts) -> dict[str, Tensor]:
        """The parts that the discriminator gives, unweighted."""
        found = {}
        if self.weights.adversarial:
            judge = losses.hinge_generator if self._is_hinge else losses.bce_generator
            found["adversarial"] = judge(fake)
        if self.weights.feature_matching:
            found["feature_matching"] = losses.feature_matching_loss(real, fake)
        return found

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weighted = [getattr(self.weights, name) * part for name, part in parts.items()]
        first, *rest = weighted
        for one in rest:
            first = first + one
        return first
