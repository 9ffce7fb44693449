"""A 3-D U-Net for nodule detection, and networks of one's own by import path.

Cicek et al. 2016, "3D U-Net" (arxiv.org/abs/1606.06650), with batch norm before each activation and
channels that double at each level. 22,578,273 parameters for base 32, depth 4 without heads.
"""

import importlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.config import ModelConfig

Activation = Literal["relu", "leaky_relu", "elu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}
CENTRE, SIZE, TRIAGE = slice(1, 4), slice(4, 7), slice(7, 8)
"""Channels after the heatmap's logit: an offset in mm and three diameters, both in the order z, y,
x and in tens of millimetres, and the logit of malignancy."""
HEAD_CHANNELS = 7
PRIOR = 0.01
"""Probability with which the heatmap begins everywhere (Lin et al. 2017, section 4.1): without it
the first hundreds of steps only learn that most voxels are background."""


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """What a U-Net is built from."""

    in_channels: int = 1
    out_channels: int = 1
    base_filters: int = 32
    depth: int = 4
    """Downsampling levels: sides of an input are multiples of 2**depth."""
    batch_norm: bool = True
    dropout: float = 0.0
    """Of whole channels, after each block."""
    activation: Activation = "relu"
    heads: bool = False
    """Whether centre, size and triage come beside the heatmap."""
    checkpointing: bool = False
    """Compute each block once more in the backward pass rather than keep what is inside."""


class UNet3d(nn.Module):
    """Encoder with max pooling, decoder with transposed convolutions and skips, 1x1x1 heads."""

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        filters = [shape.base_filters << level for level in range(shape.depth + 1)]
        channels = [shape.in_channels, *filters]
        self.encoder = nn.ModuleList(
            _block(channels[level], filters[level], shape) for level in range(shape.depth + 1)
        )
        self.pool = nn.MaxPool3d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(filters[level + 1], filters[level], kernel_size=2, stride=2)
            for level in reversed(range(shape.depth))
        )
        self.decoder = nn.ModuleList(
            _block(2 * filters[level], filters[level], shape)
            for level in reversed(range(shape.depth))
        )
        self.heatmap = nn.Conv3d(shape.base_filters, shape.out_channels, kernel_size=1)
        nn.init.constant_(self.heatmap.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
        self.heads = (
            nn.Conv3d(shape.base_filters, HEAD_CHANNELS, kernel_size=1) if shape.heads else None
        )
        self._checkpointing = shape.checkpointing

    def forward(self, volume: Tensor) -> Tensor:
        """volume: (B, in, D, H, W). Returns logits (B, out, D, H, W), with 7 more channels of the
        heads where there are any: see CENTRE, SIZE and TRIAGE."""
        features, skips = volume, []
        for level, block in enumerate(self.encoder):
            features = self._run(block, features if level == 0 else self.pool(features))
            skips.append(features)
        for up, block, skip in zip(self.up, self.decoder, reversed(skips[:-1]), strict=True):
            features = self._run(block, torch.cat([skip, up(features)], dim=1))
        logits: Tensor = self.heatmap(features)
        return logits if self.heads is None else torch.cat([logits, self.heads(features)], dim=1)

    def _run(self, block: nn.Module, features: Tensor) -> Tensor:
        if not (self._checkpointing and torch.is_grad_enabled()):
            result: Tensor = block(features)
            return result

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_kept(block)

        repeated: Tensor = checkpoint(block, features, use_reentrant=False, context_fn=contexts)
        return repeated


def pool_around(maps: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over a volume: global pooling that looks at one nodule.

    A 1x1x1 convolution commutes with it, so heads may be pooled after they were blended.
    maps: (B, C, D, H, W). weights: (B, D, H, W), at least 0. Returns (B, C); 0 where no weight is.
    """
    total = weights.flatten(1).sum(1).clamp(min=torch.finfo(weights.dtype).tiny)  # (B,)
    return torch.einsum("bcdhw,bdhw->bc", maps, weights) / total[:, None]


def build_network(config: ModelConfig, *, heads: bool) -> nn.Module:
    """The configured network. heads: whether centre, size and triage are learnt."""
    if config.type == "custom":
        outputs = config.out_channels + (HEAD_CHANNELS if heads else 0)
        return build_custom(config.class_path or "", config.in_channels, outputs)
    return UNet3d(
        UNetShape(
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            base_filters=config.base_filters,
            depth=config.depth,
            batch_norm=config.use_batch_norm,
            dropout=config.dropout_rate if config.use_dropout else 0.0,
            activation=config.activation,
            heads=heads,
            checkpointing=config.gradient_checkpointing,
        )
    )


def build_custom(path: str, in_channels: int, out_channels: int) -> nn.Module:
    """A network of one's own: called with in_channels and out_channels, it maps (B, in, D, H, W) to
    logits (B, out, D, H, W). Raises ConfigurationError where it cannot be imported."""
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module or path), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"model.class: cannot import '{path}' ({error}); write package.module.Class of a "
            "class on PYTHONPATH."
        ) from error
    network = found(in_channels=in_channels, out_channels=out_channels)
    if not isinstance(network, nn.Module):
        raise ConfigurationError(f"model.class: '{path}' is no torch.nn.Module; name one that is.")
    return network


def count_parameters(module: nn.Module) -> int:
    """Trainable and frozen parameters, without buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def _block(inputs: int, outputs: int, shape: UNetShape) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        # Batch norm's own shift stands in for the bias.
        bias = not shape.batch_norm
        layers.append(nn.Conv3d(channels, outputs, kernel_size=3, padding=1, bias=bias))
        layers += [nn.BatchNorm3d(outputs)] if shape.batch_norm else []
        layers.append(ACTIVATIONS[shape.activation]())
    layers += [nn.Dropout3d(shape.dropout)] if shape.dropout else []
    return nn.Sequential(*layers)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Without this, a block computed twice would move its running statistics twice."""
    norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
