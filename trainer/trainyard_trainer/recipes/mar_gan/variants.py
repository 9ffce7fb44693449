"""Named sets of settings: the guide's variants, each adding to the last, and its ablation study.

A set is a group of the configuration (`variant: v3`), and one run of the study (ablation.py). What
is written beside it still wins.
"""

from collections.abc import Mapping
from typing import Any

Settings = dict[str, Any]
"""Values by dotted key."""

_WEIGHTS = "training.loss_weights"
_PARTS = (
    "adversarial",
    "feature_matching",
    "reconstruction",
    "edge",
    "physics",
    "metal_consistency",
    "mse",
)
_SINGLE_SCALE: Settings = {"model.discriminator.num_scales": 1}


def _weights(**parts: float) -> Settings:
    """These parts of the loss alone."""
    return {f"{_WEIGHTS}.{name}": parts.get(name, 0.0) for name in _PARTS}


def _without(*names: str) -> Settings:
    return {f"{_WEIGHTS}.{name}": 0.0 for name in names}


_MSE: Settings = {f"{_WEIGHTS}.mse": 1.0} | _without("reconstruction")
"""Plain MSE in the place of metal-aware reconstruction."""
_LAST = ("physics", "metal_consistency")


STEPS: Mapping[str, Settings] = {
    "baseline": _weights(mse=1) | _SINGLE_SCALE,
    "v1": _MSE | _without("feature_matching", "edge", *_LAST) | _SINGLE_SCALE,
    "v2": _MSE | _without("feature_matching", "edge", *_LAST),
    "v3": _MSE | _without("edge", *_LAST),
    "v4": _without("edge", *_LAST),
    "v5": _without(*_LAST),
    "full": {},
}
"""What each step takes away from `full`; parts that it has keep their weights. baseline: MSE alone.
v1: an adversary at one scale. v2: at all. v3: its features matched. v4: metal-aware reconstruction
in the place of MSE. v5: edges. full: physics and metal consistency."""

ABLATION: Mapping[str, Settings] = {
    "A0": _weights(mse=1),
    "A1": _without("physics"),
    "A2": _without("metal_consistency"),
    "A3": {"training.metal_aware.beta_weight": 0.0},
    "A4": _without("adversarial"),
    "A5": _without("feature_matching"),
    "A6": _without("edge"),
    "A7": {"training.adversarial_loss": "hinge"},
    "A8": {"training.adversarial_loss": "bce"},
    "B1": _SINGLE_SCALE,
    "B2": {"model.discriminator.use_spectral_norm": False},
    **{f"B3-r{r}": {"training.metal_aware.dilation_radius": r} for r in (0, 3, 5, 7)},
}
"""What each run of the study changes in `full`."""

MEANINGS: Mapping[str, str] = {
    "A0": "MSE only",
    "A1": "no physics",
    "A2": "no metal consistency",
    "A3": "w = 1",
    "A4": "no adversarial",
    "A5": "no feature matching",
    "A6": "no edge",
    "A7": "hinge loss (the default)",
    "A8": "vanilla BCE GAN",
    "B1": "single scale",
    "B2": "no spectral norm",
    "B3-r0": "dilation radius 0",
    "B3-r3": "dilation radius 3",
    "B3-r5": "dilation radius 5 (the default)",
    "B3-r7": "dilation radius 7",
}

DCGAN: Settings = _weights(mse=1, adversarial=0.1) | {
    "model.discriminator.type": "DCGAN",
    "training.adversarial_loss": "bce",
}
"""The guide's train_baseline."""

VARIANTS: Mapping[str, Settings] = {**STEPS, **ABLATION, "dcgan": DCGAN}
