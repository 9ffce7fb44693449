"""Random changes to training patches: a section for each. No torch here."""

from typing import Annotated

from pydantic import Field

from trainyard_trainer.config import Section
from trainyard_trainer.recipes.lung_nodule.values import Millimetres, Share, Weight


class FlipConfig(Section):
    """Mirror images."""

    probability: Share = 0.5
    """For each axis by itself; 0: never."""
    axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = (0, 1, 2)
    """Which axes: 0 is z, 1 y, 2 x."""


class RotationConfig(Section):
    """Turned copies."""

    probability: Share = 0.5
    """How often; 0: never."""
    max_angle: float = Field(default=15.0, ge=0, le=180)
    """Largest angle about each axis, either way, in degrees."""


class ScaleConfig(Section):
    """Larger and smaller copies."""

    probability: Share = 0.5
    """How often; 0: never."""
    scale_range: tuple[Millimetres, Millimetres] = (0.9, 1.1)
    """Smallest and largest factor; diameters change with it."""


class NoiseConfig(Section):
    """Gaussian noise."""

    probability: Share = 0.3
    """How often; 0: never."""
    noise_std: Weight = 0.01
    """Standard deviation, as a share of the HU window."""


class ElasticConfig(Section):
    """Smooth random displacements (Simard et al. 2003)."""

    probability: Share = 0.2
    """How often; 0: never."""
    alpha: Weight = 10.0
    """Factor of the smoothed noise, in voxels."""
    sigma: Millimetres = 3.0
    """Standard deviation of the smoothing, in voxels."""


class AugmentationConfig(Section):
    """Random changes to training patches, the same for a sample and epoch whenever repeated."""

    enabled: bool = True
    """false: none at all, whatever the sections below say."""
    random_flip: FlipConfig = FlipConfig()
    """Mirroring."""
    random_rotation: RotationConfig = RotationConfig()
    """Turning."""
    random_scale: ScaleConfig = ScaleConfig()
    """Scaling."""
    random_noise: NoiseConfig = NoiseConfig()
    """Noise."""
    elastic_deformation: ElasticConfig = ElasticConfig()
    """Elastic deformation."""
