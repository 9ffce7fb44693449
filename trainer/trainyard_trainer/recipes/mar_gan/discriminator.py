"""Discriminators: what a reconstruction must pass for a metal-free image.

Both see the artefact image beside the one to judge, as two channels, and return logits.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
STRIDES = (2, 2, 2, 2, 1)
WIDTHS = (1, 2, 4, 8, 8)
"""Channels of the five convolutions, in multiples of base_channels."""


class Verdict(NamedTuple):
    """What one scale makes of a batch."""

    logits: Tensor
    """(B, 1, h, w): one for each overlapping patch."""
    features: tuple[Tensor, ...]
    """After each of the first four convolutions."""


class PatchGAN(nn.Module):
    """One scale (Isola et al., CVPR 2017, arXiv 1611.07004, section 3.2.2).

    Five 4x4 convolutions, LeakyReLU 0.2 after all but the last, and a 1x1 one to the logit.
    Spectral normalisation (Miyato et al., ICLR 2018, arXiv 1802.05957, eq. 8) of each weight: it is
    divided by its largest singular value, estimated by one power iteration a forward pass.
    """

    def __init__(self, base_channels: int, *, use_spectral_norm: bool) -> None:
        super().__init__()
        wrap = spectral_norm if use_spectral_norm else _as_it_is
        widths = [2, *(base_channels * factor for factor in WIDTHS)]
        self.convolutions = nn.ModuleList(
            wrap(nn.Conv2d(before, after, 4, stride=stride, padding=1))
            for before, after, stride in zip(widths, widths[1:], STRIDES, strict=False)
        )
        self.to_logit = wrap(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, pair: Tensor) -> Verdict:
        """pair: (B, 2, H, W)."""
        features = []
        *early, last = self.convolutions
        for convolution in early:
            pair = F.leaky_relu(convolution(pair), SLOPE)
            features.append(pair)
        return Verdict(self.to_logit(last(pair)), tuple(features))


class MultiScalePatchGAN(nn.Module):
    """PatchGANs with weights of their own at full, half, quarter, ... size.

    As in pix2pixHD (Wang et al., CVPR 2018, arXiv 1711.11585, section 3.2); 2x2 average pooling.
    """

    def __init__(self, num_scales: int, base_channels: int, *, use_spectral_norm: bool) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchGAN(base_channels, use_spectral_norm=use_spectral_norm) for _ in range(num_scales)
        )

    def forward(self, artefact: Tensor, image: Tensor) -> list[Verdict]:
        """(B, 1, H, W) each. A verdict for each scale, the finest first."""
        pair = torch.cat([artefact, image], dim=1)
        verdicts = []
        for index, scale in enumerate(self.scales):
            pair = F.avg_pool2d(pair, 2) if index else pair
            verdicts.append(scale(pair))
        return verdicts


class DCGAN(nn.Module):
    """The baseline's: one logit an image (Radford et al., ICLR 2016, arXiv 1511.06434, section 3).

    Strided 4x4 convolutions, batch normalisation in all but the first, LeakyReLU 0.2, until 4x4
    pixels are left; then one 4x4 convolution over all of them. Widths double up to 8 times.
    """

    def __init__(self, base_channels: int, side: int) -> None:
        """side: of the images, a power of two from 8 on."""
        super().__init__()
        layers: list[nn.Module] = []
        before = 2
        for depth in range(int(math.log2(side)) - 2):
            after = base_channels * min(2**depth, 8)
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=depth == 0))
            if depth:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(SLOPE))
            before = after
        self.features = nn.Sequential(*layers)
        self.to_logit = nn.Conv2d(before, 1, 4)

    def forward(self, artefact: Tensor, image: Tensor) -> list[Verdict]:
        """(B, 1, side, side) each. One verdict, (B, 1, 1, 1), without features to match."""
        features = self.features(torch.cat([artefact, image], dim=1))
        return [Verdict(self.to_logit(features), ())]


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer
