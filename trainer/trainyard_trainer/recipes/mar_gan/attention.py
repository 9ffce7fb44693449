"""Window attention and n-gram context: what an NGswin block looks at.

Swin Transformer V2 (Liu et al., CVPR 2022, arXiv 2111.09883), eq. 2: scaled cosine attention,

    A = softmax(cos(q, k) * exp(min(s, ln 100)) + B),    s = ln 10 at first,

with one s a head and a bias B that follows from the relative position of two tokens. N-gram
context (Choi et al., CVPR 2023, arXiv 2211.11436, section 3.2): windows, as one vector each, attend
to their neighbours before their own tokens attend to each other.

Parameters bear the names of the authors' published weights.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST_SCALE = math.log(100)
"""Bound of the logit scale s."""
MASKED = -100.0
"""Added to the logits of two tokens that are neighbours by the cyclic shift alone."""


def split_windows(tokens: Tensor, side: int) -> Tensor:
    """(B, H, W, C) into (B, windows, side * side, C), row by row; side divides H and W."""
    batch, height, width, channels = tokens.shape
    cut = tokens.reshape(batch, height // side, side, width // side, side, channels)
    return cut.transpose(2, 3).reshape(batch, -1, side * side, channels)


def join_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """Undo `split_windows`: (B, windows, side * side, C) into (B, height, width, C)."""
    batch, channels = windows.shape[0], windows.shape[-1]
    cut = windows.reshape(batch, height // side, width // side, side, side, channels)
    return cut.transpose(2, 3).reshape(batch, height, width, channels)


class WindowAttention(nn.Module):
    """Multi-head scaled cosine attention within windows of side x side tokens.

    A head has channels // heads channels, rounded down: six heads at 64 channels attend in 60.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.area = heads, side * side
        inner = channels // heads * heads
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        table = torch.empty((2 * side - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_positions(side), persistent=False)
        self.qkv = nn.Linear(channels, 3 * inner)
        self.proj = nn.Linear(inner, channels)

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """windows: (B, W, N, C), N the tokens of one. mask: (W, 1, N, N), added to the logits."""
        batch, count, area, _ = windows.shape
        qkv = self.qkv(windows).reshape(batch, count, area, 3, self.heads, -1)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # (B, W, heads, N, C / heads)
        scale = self.logit_scale.clamp(max=LARGEST_SCALE).exp()
        query = F.normalize(query, dim=-1) * scale
        bias = self._bias() if mask is None else self._bias() + mask
        key = F.normalize(key, dim=-1)
        if query.is_cuda:  # On a CPU the plain formula takes half of the fused one's time.
            kind = value.dtype
            attended = F.scaled_dot_product_attention(
                query.to(kind), key.to(kind), value, attn_mask=bias.to(kind), scale=1.0
            )
        else:
            attended = (query @ key.transpose(-2, -1) + bias).softmax(dim=-1).to(value) @ value
        joined = attended.transpose(2, 3).reshape(batch, count, area, -1)
        projected: Tensor = self.proj(joined)
        return projected

    def _bias(self) -> Tensor:
        """(heads, N, N)."""
        rows = self.relative_position_bias_table[self.relative_position_index.reshape(-1)]
        return rows.reshape(self.area, self.area, self.heads).permute(2, 0, 1)


class NGramContext(nn.Module):
    """One vector a window, from n x n windows after it and n x n before it (section 3.2, eq. 2-4).

    A strided grouped convolution makes uni-grams of half the channels; each n x n neighbourhood
    attends to itself and is averaged, once towards the lower right and once towards the upper left.
    """

    def __init__(self, channels: int, side: int, ngram: int, heads: int) -> None:
        super().__init__()
        half = channels // 2
        self.ngram = ngram
        self.unigram_embed = nn.Conv2d(channels, half, side, stride=side, groups=half)
        self.ngram_attn = WindowAttention(half, heads, ngram)
        self.merge = nn.Conv2d(channels, channels, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (B, H, W, C). Returns (B, H / side, W / side, C)."""
        unigrams = self.unigram_embed(tokens.permute(0, 3, 1, 2))  # (B, C / 2, h, w)
        both = [self._towards(unigrams, forward=towards) for towards in (True, False)]
        merged: Tensor = self.merge(torch.cat(both, dim=1))
        return merged.permute(0, 2, 3, 1)

    def _towards(self, unigrams: Tensor, *, forward: bool) -> Tensor:
        batch, half, height, width = unigrams.shape
        rows, columns = (
            sequence_reflection(size, self.ngram, forward=forward).to(unigrams.device)
            for size in (height, width)
        )
        padded = unigrams[:, :, rows][:, :, :, columns]
        slid = padded.unfold(2, self.ngram, 1).unfold(3, self.ngram, 1)  # (B, C/2, h, w, n, n)
        grams = slid.permute(0, 2, 3, 4, 5, 1).reshape(batch, height * width, -1, half)
        mean = self.ngram_attn(grams).mean(dim=2)  # (B, h * w, C / 2)
        return mean.transpose(1, 2).reshape(batch, half, height, width)


@lru_cache(maxsize=64)
def sequence_reflection(size: int, ngram: int, *, forward: bool) -> Tensor:
    """Indices of a row of windows, and of the n - 1 that follow (or come before) its edge.

    Those are the windows next to the edge's, in their own order: 0 1 2 3 becomes 0 1 2 3 1 2 for
    n = 3 forwards, 1 2 0 1 2 3 backwards. In a row shorter than n, its edges are repeated.
    """
    row = list(range(size))
    extra = range(size - ngram, size - 1) if forward else range(1, ngram)
    held = [min(max(index, 0), size - 1) for index in extra]
    return torch.tensor(row + held if forward else held + row)


def relative_positions(side: int) -> Tensor:
    """(N, N): the row of the bias table for each pair of a window's tokens."""
    along = torch.arange(side)
    rows, columns = (grid.reshape(-1) for grid in torch.meshgrid(along, along, indexing="ij"))
    down = rows[:, None] - rows[None] + side - 1
    across = columns[:, None] - columns[None] + side - 1
    return down * (2 * side - 1) + across


@lru_cache(maxsize=64)
def shift_mask(height: int, width: int, side: int, shift: int, device: torch.device) -> Tensor:
    """(windows, 1, N, N): 0 between tokens that lie side by side in the image, else MASKED."""
    labels = torch.zeros(1, height, width, 1)
    cuts = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
        labels[:, rows, columns] = number
    windows = split_windows(labels, side)[0, :, :, 0]  # (windows, N)
    differs = windows[:, None, :] != windows[:, :, None]
    return (differs * MASKED)[:, None].to(device)
