"""NGswin (Choi et al., CVPR 2023, arXiv 2211.11436, figure 2): the generator.

A shallow convolution, three encoder stages at full, half and quarter resolution, the SCDP
bottleneck, one decoder stage, and a reconstruction. Every stage keeps the same number of channels.
The published super-resolution networks are NGswin(scale=2, 3, 4) with three channels: 998,384,
1,007,039 and 1,019,156 parameters. For metal artefacts the scale is 1, with one channel and tanh.

Images are (B, C, H, W); between stages they are tokens (B, H, W, C), as attention wants them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainyard_trainer.recipes.mar_gan.attention import (
    NGramContext,
    WindowAttention,
    join_windows,
    shift_mask,
    split_windows,
)

MLP_RATIO = 2
Output = Literal["tanh", "residual", "plain"]
"""tanh: squashed into [-1, 1], as for metal artefacts. plain: as they are, as published for
super-resolution. residual: added to the input, and 0 at first (`Reconstruction.start_at_zero`)."""


class NGramWindows(nn.Module):
    """Holds the context under the name that published weights have."""

    def __init__(self, channels: int, side: int, ngram: int, heads: int) -> None:
        super().__init__()
        self.ngram_context = NGramContext(channels, side, ngram, heads)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, MLP_RATIO * channels)
        self.fc2 = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        changed: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return changed


class Block(nn.Module):
    """N-gram Swin transformer block, norms after attention and feed-forward (figure 3a).

    x = x + LN(attention(x + context(x))), then x = x + LN(MLP(x)); the context is added to every
    token of its window before the shift.
    """

    def __init__(self, channels: int, side: int, ngram: int, heads: int, *, shifts: bool) -> None:
        super().__init__()
        self.side, self.shift = side, side // 2 if shifts else 0
        self.ngram_window_partition = NGramWindows(channels, side, ngram, heads)
        self.attn = WindowAttention(channels, heads, side)
        self.norm1 = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to the same; the side divides H and W."""
        tokens = tokens + self.norm1(self._attend(tokens))
        changed: Tensor = tokens + self.norm2(self.ffn(tokens))
        return changed

    def _attend(self, tokens: Tensor) -> Tensor:
        _, height, width, _ = tokens.shape
        side, shift = self.side, self.shift
        context = self.ngram_window_partition.ngram_context(tokens)  # (B, H / side, W / side, C)
        tokens = tokens + context.repeat_interleave(side, 1).repeat_interleave(side, 2)
        mask = None
        if shift:
            tokens = tokens.roll((-shift, -shift), dims=(1, 2))
            mask = shift_mask(height, width, side, shift, tokens.device)
        attended = self.attn(split_windows(tokens, side), mask)
        joined = join_windows(attended, side, height, width)
        return joined.roll((shift, shift), dims=(1, 2)) if shift else joined


class Blocks(nn.Module):
    """Blocks in a row; each is given its predecessor's output plus its predecessor's input."""

    def __init__(self, channels: int, side: int, ngram: int, heads: int, depth: int) -> None:
        super().__init__()
        self.recomputes = False
        self.blocks = nn.ModuleList(
            Block(channels, side, ngram, heads, shifts=index % 2 == 1) for index in range(depth)
        )

    def run(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The last block's input and output, (B, H, W, C) each."""
        given, found = torch.zeros_like(tokens), tokens
        for block in self.blocks:
            given = found + given
            if self.recomputes and torch.is_grad_enabled():
                found = checkpoint(block, given, use_reentrant=False)
            else:
                found = block(given)
        return given, found


class PatchMerging(nn.Module):
    """2x2 tokens into one with as many channels: concatenate, LayerNorm, linear without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H / 2, W / 2, C)."""
        corners = [tokens[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(corners, dim=-1)))
        return merged


class EncoderStage(Blocks):
    """A linear layer over the cascade, blocks, and patch merging in all but the last stage."""

    def __init__(self, channels: int, side: int, ngram: int, shape: tuple[int, int, int]) -> None:
        """shape: heads, depth, and how many stages' outputs the cascade concatenates."""
        heads, depth, cascade = shape
        super().__init__(channels, side, ngram, heads, depth)
        self.across_cascade_proj = (
            nn.Linear(cascade * channels, channels) if cascade > 1 else nn.Identity()
        )
        self.downsample: PatchMerging | None = None

    def forward(self, cascade: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's output, and what the next one begins with."""
        given, found = self.run(self.across_cascade_proj(cascade))
        merged = found if self.downsample is None else self.downsample(found + given)
        return found, merged


class DecoderStage(Blocks):
    """Blocks alone."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        return self.run(tokens)[1]


class Bottleneck(nn.Module):
    """SCDP (figure 4): pixel-shuffle, concatenate, depth-wise convolution, projection."""

    def __init__(self, channels: int, stages: int) -> None:
        super().__init__()
        wide = sum(channels // 4**stage for stage in range(stages))
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.pointwise = nn.Linear(wide, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, shallow: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """shallow: (B, C, H, W). outputs: of the stages, from full size down. (B, H, W, C)."""
        shuffled = []
        for stage, output in enumerate(outputs):
            pooled = F.leaky_relu(shallow, 0.01)
            shuffled.append(F.pixel_shuffle(output.permute(0, 3, 1, 2) + pooled, 2**stage))
            shallow = F.max_pool2d(shallow, 2) if stage + 1 < len(outputs) else shallow
        mixed = F.gelu(self.depthwise(torch.cat(shuffled, dim=1)))
        projected: Tensor = self.norm(self.pointwise(mixed.permute(0, 2, 3, 1)))
        return projected


class Reconstruction(nn.Module):
    """3x3 convolution, pixel shuffle by the scale, 3x3 convolution."""

    def __init__(self, channels: int, image_channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.before_shuffle = nn.Conv2d(channels, image_channels * scale**2, 3, padding=1)
        self.to_origin = nn.Conv2d(image_channels, image_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (B, image channels, scale * H, scale * W)."""
        image: Tensor = self.to_origin(F.pixel_shuffle(self.before_shuffle(features), self.scale))
        return image

    def start_at_zero(self) -> None:
        """As residual branches in arXiv 1706.02677, section 5.1.

        The first convolution is 0 and the second hands on what it gets. Were the second 0, nothing
        before it would have gradients at first.
        """
        for parameter in self.before_shuffle.parameters():
            nn.init.zeros_(parameter)
        nn.init.dirac_(self.to_origin.weight)
        nn.init.zeros_(self.to_origin.bias)  # type: ignore[arg-type]


class NGswin(nn.Module):
    """The whole network; any H and W, padded with 0 at the right and bottom to its unit."""

    def __init__(  # noqa: PLR0913
        self,
        *,
        channels: int = 64,
        depths: Sequence[int] = (6, 4, 4),
        heads: Sequence[int] = (6, 4, 4),
        side: int = 8,
        ngrams: Sequence[int] = (2, 2, 2, 2),
        decoder: tuple[int, int] = (6, 6),
        image_channels: int = 1,
        scale: int = 1,
        output: Output = "tanh",
        recomputes: bool = False,
    ) -> None:
        """side: of a window, in tokens. ngrams: of the encoder stages and the decoder.

        decoder: its heads and depth. output: what becomes of the last values; see `Output`.
        recomputes: keep only the blocks' inputs for the backward pass, and compute the rest again.
        """
        super().__init__()
        self.unit, self.scale, self.output = side * 2 ** (len(depths) - 1), scale, output
        self.stages = len(depths)
        self.shallow_extract = nn.ModuleDict(
            {"conv1": nn.Conv2d(image_channels, channels, 3, padding=1)}
        )
        for stage, shape in enumerate(zip(heads, depths, strict=True)):
            encoder = EncoderStage(channels, side, ngrams[stage], (*shape, stage + 1))
            if stage + 1 < self.stages:
                encoder.downsample = PatchMerging(channels)
            self.add_module(f"encoder_layer{stage + 1}", encoder)
        self.bottleneck = Bottleneck(channels, self.stages)
        self.decoder_layer1 = DecoderStage(channels, side, ngrams[-1], *decoder)
        self.norm = nn.LayerNorm(channels)
        self.to_target = Reconstruction(channels, image_channels, scale)
        self.apply(_initialise)
        if output == "residual":
            self.to_target.start_at_zero()
        for part in self.modules():
            if isinstance(part, Blocks):
                part.recomputes = recomputes

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W), in [-1, 1] with tanh."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.unit, 0, -height % self.unit))
        shallow = self.shallow_extract["conv1"](padded)
        tokens = shallow.permute(0, 2, 3, 1)
        outputs = self._encode(tokens)
        decoded = self.decoder_layer1(self.bottleneck(shallow, outputs) + outputs[0])
        features = (self.norm(decoded) + tokens).permute(0, 3, 1, 2)
        image = self.to_target(features)[..., : height * self.scale, : width * self.scale]
        if self.output == "residual":
            return images + image
        return image.tanh() if self.output == "tanh" else image

    def _encode(self, cascade: Tensor) -> list[Tensor]:
        """Each stage's output. The cascade grows by one stage's output at each halving."""
        outputs = []
        for stage in range(self.stages):
            output, merged = getattr(self, f"encoder_layer{stage + 1}")(cascade)
            outputs.append(output)
            if stage + 1 < self.stages:
                pooled = F.max_pool2d(cascade.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
                cascade = torch.cat([pooled, merged], dim=-1)
        return outputs


def _initialise(part: nn.Module) -> None:
    """As Swin V2: linear layers from a truncated normal distribution; norms are 1 and 0 anyway."""
    if isinstance(part, nn.Linear):
        nn.init.trunc_normal_(part.weight, std=0.02)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
