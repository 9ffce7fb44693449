import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from trainyard_trainer.recipes.mar_gan.attention import (
    NGramContext,
    WindowAttention,
    join_windows,
    sequence_reflection,
    shift_mask,
    split_windows,
)
from trainyard_trainer.recipes.mar_gan.config import GeneratorConfig
from trainyard_trainer.recipes.mar_gan.discriminator import DCGAN, MultiScalePatchGAN
from trainyard_trainer.recipes.mar_gan.model import build_generator
from trainyard_trainer.recipes.mar_gan.ngswin import Blocks, NGswin

SMALL = GeneratorConfig(
    embed_dim=16,
    depths=(1, 2, 1),
    num_heads=(2, 2, 2),
    window_size=4,
    decoder_depth=2,
    decoder_heads=2,
)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("scale", "parameters"), [(2, 998_384), (3, 1_007_039), (4, 1_019_156)])
def test_parameters_are_as_many_as_published(scale: int, parameters: int) -> None:
    assert count(NGswin(image_channels=3, scale=scale, output="plain")) == parameters


def test_the_generator_for_metal_has_one_channel_at_scale_one() -> None:
    network = build_generator(GeneratorConfig())
    assert count(network) == 990_811
    convolutions = (network.to_target.before_shuffle, network.to_target.to_origin)
    assert [tuple(one.weight.shape) for one in convolutions] == [(1, 64, 3, 3), (1, 1, 3, 3)]


def test_published_weights_load_by_name() -> None:
    names = NGswin(image_channels=3, scale=2, output="plain").state_dict()
    block = "encoder_layer1.blocks.0"
    ngram = f"{block}.ngram_window_partition.ngram_context"
    shapes = {
        "shallow_extract.conv1.weight": (64, 3, 3, 3),
        f"{ngram}.unigram_embed.weight": (32, 2, 8, 8),
        f"{ngram}.ngram_attn.relative_position_bias_table": (9, 6),
        f"{ngram}.ngram_attn.qkv.weight": (90, 32),  # Six heads of 32 // 6 channels.
        f"{ngram}.merge.weight": (64, 64, 1, 1),
        f"{block}.attn.logit_scale": (6, 1, 1),
        f"{block}.attn.relative_position_bias_table": (225, 6),
        f"{block}.attn.qkv.weight": (180, 64),  # Six heads of 64 // 6 channels.
        f"{block}.attn.proj.weight": (64, 60),
        f"{block}.ffn.fc1.weight": (128, 64),
        "encoder_layer1.downsample.reduction.weight": (64, 256),
        "encoder_layer2.across_cascade_proj.weight": (64, 128),
        "encoder_layer3.across_cascade_proj.weight": (64, 192),
        "bottleneck.depthwise.weight": (84, 1, 3, 3),
        "decoder_layer1.blocks.5.norm2.bias": (64,),
        "to_target.before_shuffle.weight": (12, 64, 3, 3),
    }
    assert {name: tuple(names[name].shape) for name in shapes} == shapes
    assert len(names) == 504


@pytest.mark.parametrize("side", [(32, 32), (20, 37)])
def test_any_size_comes_back_within_minus_one_and_one(side: tuple[int, int]) -> None:
    images = torch.randn(2, 1, *side)
    found = build_generator(SMALL)(images)
    assert found.shape == images.shape
    assert found.abs().max() <= 1


def test_what_lies_in_the_padding_comes_from_zeros() -> None:
    network = build_generator(SMALL).eval()
    images = torch.randn(1, 1, 16, 24)
    padded = torch.zeros(1, 1, 16, 32)
    padded[..., :24] = images
    assert torch.equal(network(images), network(padded)[..., :24])


def test_recomputed_blocks_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    plain = build_generator(SMALL)
    again = build_generator(SMALL.model_copy(update={"recompute": True}))
    again.load_state_dict(plain.state_dict())
    images = torch.randn(1, 1, 16, 16)
    for network in (plain, again):
        network(images).square().mean().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-7)


def test_a_blocks_input_is_the_last_output_plus_the_last_input() -> None:
    stage = Blocks(16, 4, 2, 2, depth=3)
    stage.blocks = nn.ModuleList(Times(factor) for factor in (2, 3, 5))
    given, found = stage.run(torch.ones(1, 1, 1, 1))
    # 1 -> 2; 2 + 1 = 3 -> 9; 9 + 3 = 12 -> 60.
    assert (given.item(), found.item()) == (12, 60)


class Times(nn.Module):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, tokens: Tensor) -> Tensor:
        return self.factor * tokens


def test_windows_are_joined_as_they_were_split() -> None:
    tokens = torch.randn(2, 8, 12, 3)
    windows = split_windows(tokens, 4)
    assert windows.shape == (2, 6, 16, 3)
    assert torch.equal(windows[0, 4, 5], tokens[0, 5, 5])
    assert torch.equal(join_windows(windows, 4, 8, 12), tokens)


@pytest.mark.parametrize(
    ("size", "ngram", "forward", "indices"),
    [
        (4, 2, True, [0, 1, 2, 3, 2]),
        (4, 3, True, [0, 1, 2, 3, 1, 2]),
        (4, 2, False, [1, 0, 1, 2, 3]),
        (4, 3, False, [1, 2, 0, 1, 2, 3]),
        (1, 2, True, [0, 0]),
        (4, 1, True, [0, 1, 2, 3]),
    ],
)
def test_windows_beyond_the_edge_are_a_sequence_reflected(
    size: int, ngram: int, forward: bool, indices: list[int]
) -> None:
    assert sequence_reflection(size, ngram, forward=forward).tolist() == indices


def test_scaled_cosine_attention_is_softmax_of_cosines() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 2)
    with torch.no_grad():
        attention.logit_scale[0] = 9.0  # Clamped at ln 100.
    windows = torch.randn(1, 1, 4, 8)
    query, key, value = attention.qkv(windows)[0, 0].reshape(4, 3, 2, 4).unbind(1)
    found = []
    for head, scale in enumerate((100.0, 10.0)):
        cosines = nn.functional.cosine_similarity(query[:, None, head], key[None, :, head], dim=2)
        bias = attention.relative_position_bias_table[:, head]
        steps = [(r, c) for r in range(2) for c in range(2)]
        rows = [[(a - c + 1) * 3 + b - d + 1 for c, d in steps] for a, b in steps]
        weights = (scale * cosines + bias[torch.tensor(rows)]).softmax(dim=1)
        found.append(weights @ value[:, head])
    expected = attention.proj(torch.stack(found, dim=1).reshape(4, 8))
    assert torch.allclose(attention(windows)[0, 0], expected, atol=1e-5)


def test_tokens_that_only_the_shift_brought_together_do_not_see_each_other() -> None:
    mask = shift_mask(8, 8, 4, 2, torch.device("cpu"))  # (4, 1, 16, 16)
    assert torch.equal(mask[0], torch.zeros(1, 16, 16))
    # In the last window, rows 0-1 are the image's last, rows 2-3 its first.
    assert mask[3, 0, 0, 15] == -100
    assert mask[3, 0, 0, 5] == 0


def test_ngram_context_passes_gradcheck() -> None:
    torch.manual_seed(0)
    context = NGramContext(4, 2, 2, 1).double()
    tokens = torch.randn(1, 4, 6, 4, dtype=torch.float64, requires_grad=True)
    assert context(tokens).shape == (1, 2, 3, 4)
    assert torch.autograd.gradcheck(context, (tokens,))


def test_an_ngram_sees_the_window_after_it_and_the_one_before_it() -> None:
    torch.manual_seed(0)
    context = NGramContext(4, 2, 2, 1)
    tokens = torch.randn(1, 2, 12, 4, requires_grad=True)
    context(tokens)[0, 0, 2].sum().backward()
    assert tokens.grad is not None
    windows = split_windows(tokens.grad, 2).abs().sum(dim=(0, 2, 3))
    assert (windows > 0).tolist() == [False, True, True, True, False, False]


def test_patchgan_has_a_verdict_and_four_features_a_scale() -> None:
    network = MultiScalePatchGAN(3, 4, use_spectral_norm=True)
    verdicts = network(torch.zeros(2, 1, 128, 128), torch.zeros(2, 1, 128, 128))
    assert [tuple(one.logits.shape) for one in verdicts] == [
        (2, 1, 7, 7),
        (2, 1, 3, 3),
        (2, 1, 1, 1),
    ]
    finest = [tuple(one.shape[1:]) for one in verdicts[0].features]
    assert finest == [(4, 64, 64), (8, 32, 32), (16, 16, 16), (32, 8, 8)]


def test_scales_have_weights_of_their_own() -> None:
    # 2 -> 64 -> 128 -> 256 -> 512 -> 512 channels of 4x4, and 1x1 to the logit, with biases.
    widths = [2, 64, 128, 256, 512, 512]
    convolutions = sum(16 * a * b + b for a, b in pairwise(widths))
    one = convolutions + 512 + 1
    assert count(MultiScalePatchGAN(1, 64, use_spectral_norm=False)) == one
    assert count(MultiScalePatchGAN(3, 64, use_spectral_norm=False)) == 3 * one


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    network = MultiScalePatchGAN(1, 4, use_spectral_norm=True)
    images = torch.zeros(1, 1, 32, 32)
    for _ in range(200):
        network(images, images)
    for layer in (*network.scales[0].convolutions, network.scales[0].to_logit):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        assert largest.item() == pytest.approx(1, abs=0.02)


def test_dcgan_says_one_word_an_image() -> None:
    network = DCGAN(8, 32)
    verdicts = network(torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 32, 32))
    assert [tuple(one.logits.shape) for one in verdicts] == [(2, 1, 1, 1)]
    assert verdicts[0].features == ()
    assert sum(isinstance(part, nn.BatchNorm2d) for part in network.modules()) == 2


def test_logits_start_at_a_scale_of_ten() -> None:
    assert WindowAttention(8, 2, 2).logit_scale.exp().flatten().tolist() == pytest.approx([10, 10])
    assert math.isclose(WindowAttention(64, 6, 8).proj.in_features, 60)


def test_a_residual_generator_begins_by_returning_its_input() -> None:
    network = build_generator(SMALL.model_copy(update={"output": "residual"}))
    images = torch.linspace(-1, 1, 20 * 37).reshape(1, 1, 20, 37)
    assert torch.equal(network(images), images)


def test_a_residual_generator_learns_from_its_first_step() -> None:
    torch.manual_seed(0)
    network = build_generator(SMALL.model_copy(update={"output": "residual"}))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    images = torch.rand(1, 1, 16, 16)
    errors = []
    for _ in range(3):
        error = (network(images) - 0.5 * images).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors == sorted(errors, reverse=True)
    assert all(parameter.grad is not None for parameter in network.parameters())
