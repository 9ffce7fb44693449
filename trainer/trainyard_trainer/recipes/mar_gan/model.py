"""The two networks of the configuration, and weights to begin with."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.mar_gan.config import DiscriminatorConfig, GeneratorConfig
from trainyard_trainer.recipes.mar_gan.discriminator import DCGAN, MultiScalePatchGAN
from trainyard_trainer.recipes.mar_gan.ngswin import NGswin


def build_generator(config: GeneratorConfig) -> NGswin:
    """An NGswin for images of one channel; 990,811 parameters by default."""
    return NGswin(
        channels=config.embed_dim,
        depths=config.depths,
        heads=config.num_heads,
        side=config.window_size,
        ngrams=config.ngrams,
        decoder=(config.decoder_heads, config.decoder_depth),
        output=config.output,
        recomputes=config.recompute,
    )


def build_discriminator(config: DiscriminatorConfig, side: int) -> nn.Module:
    """side: of the patches that it judges."""
    if config.type == "DCGAN":
        return DCGAN(config.base_channels, side)
    return MultiScalePatchGAN(
        config.num_scales, config.base_channels, use_spectral_norm=config.use_spectral_norm
    )


def load_pretrained(modules: dict[str, nn.Module], file: Path) -> None:
    """Weights of both networks, or of the generator alone, as a checkpoint's or as published.

    The discriminator stays as it is where the file has none. Raises ConfigurationError.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"model.pretrained: no file '{file}'; correct the path, or write null to start from "
            "scratch."
        ) from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigurationError(
            f"model.pretrained: '{file}' holds no weights ({reason}); fetch it again."
        ) from error
    for name, weights in _by_module(state).items():
        if name in modules:
            _load(modules[name], weights, file)


def _by_module(state: dict[str, Any]) -> dict[str, Any]:
    if "generator" in state:
        return {name: state[name] for name in ("generator", "discriminator") if name in state}
    return {"generator": state}


def _load(module: nn.Module, weights: dict[str, Any], file: Path) -> None:
    try:
        module.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [""])[-1].strip()
        raise ConfigurationError(
            f"model.pretrained: '{file}' does not fit {type(module).__name__} ({reason}); write "
            "the model section that it was trained with."
        ) from error
