import sys
import types
from typing import Any

import pytest
import torch
from torch import nn

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.config import ModelConfig
from trainyard_trainer.recipes.lung_nodule.model import (
    HEAD_CHANNELS,
    UNet3d,
    UNetShape,
    build_network,
    count_parameters,
    pool_around,
)

SMALL = UNetShape(base_filters=2, depth=2)


@pytest.mark.parametrize(("base", "parameters"), [(32, 22_578_273), (64, 90_298_561)])
def test_network_has_as_many_parameters_as_the_page_says(base: int, parameters: int) -> None:
    with torch.device("meta"):
        network = build_network(ModelConfig(base_filters=base), heads=False)
    assert count_parameters(network) == parameters


def test_channels_double_from_level_to_level() -> None:
    with torch.device("meta"):
        network = UNet3d(UNetShape())
    widths = [block[0].out_channels for block in network.encoder]  # type: ignore[index]
    assert widths == [32, 64, 128, 256, 512]


@pytest.mark.parametrize(("heads", "channels"), [(False, 1), (True, 1 + HEAD_CHANNELS)])
def test_output_has_the_shape_of_the_input(heads: bool, channels: int) -> None:
    network = UNet3d(UNetShape(base_filters=2, depth=2, heads=heads))
    assert network(torch.zeros(2, 1, 8, 4, 12)).shape == (2, channels, 8, 4, 12)


def test_heatmap_begins_at_its_prior() -> None:
    bias = UNet3d(UNetShape(base_filters=2, depth=1)).heatmap.bias
    assert bias is not None
    assert torch.sigmoid(bias).item() == pytest.approx(0.01)


@pytest.mark.parametrize("depth", [4, 5])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
def test_every_activation_and_depth_of_the_guide_is_there(depth: int, activation: Any) -> None:
    config = ModelConfig(depth=depth, activation=activation, base_filters=2, use_dropout=True)
    network = build_network(config, heads=False)
    side = 1 << depth
    assert network(torch.zeros(2, 1, side, side, side)).shape == (2, 1, side, side, side)
    kinds = {type(part) for part in network.modules()}
    named = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU}
    assert named[activation] in kinds and nn.Dropout3d in kinds


def test_without_batch_norm_or_dropout_there_is_none() -> None:
    config = ModelConfig(use_batch_norm=False, use_dropout=False, base_filters=2, depth=1)
    kinds = {type(part) for part in build_network(config, heads=False).modules()}
    assert not kinds & {nn.BatchNorm3d, nn.Dropout3d}


def test_checkpointing_changes_neither_gradients_nor_running_statistics() -> None:
    states = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = UNet3d(UNetShape(base_filters=2, depth=2, checkpointing=checkpointing))
        volume = torch.rand(2, 1, 8, 8, 8)
        network(volume).square().mean().backward()
        gradients = {n: p.grad for n, p in network.named_parameters()}
        states.append((gradients, dict(network.named_buffers())))
    for plain, repeated in zip(*states, strict=True):
        assert plain.keys() == repeated.keys()
        for name, value in plain.items():
            torch.testing.assert_close(repeated[name], value)


def test_pooling_commutes_with_a_pointwise_convolution() -> None:
    torch.manual_seed(0)
    features, weights = torch.rand(2, 4, 3, 4, 5), torch.rand(2, 3, 4, 5)
    head = nn.Conv3d(4, 3, kernel_size=1)
    pooled = pool_around(features, weights)[:, :, None, None, None]
    torch.testing.assert_close(pool_around(head(features), weights), head(pooled)[:, :, 0, 0, 0])


def test_equal_weights_pool_globally_and_no_weights_give_zero() -> None:
    maps = torch.rand(2, 3, 2, 2, 2)
    torch.testing.assert_close(pool_around(maps, torch.ones(2, 2, 2, 2)), maps.mean((2, 3, 4)))
    assert pool_around(maps, torch.zeros(2, 2, 2, 2)).tolist() == [[0] * 3] * 2


def test_a_class_of_ones_own_is_built_by_its_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    class CustomDetector(nn.Conv3d):
        def __init__(self, in_channels: int = 1, out_channels: int = 1) -> None:
            super().__init__(in_channels, out_channels, kernel_size=1)

    module = types.ModuleType("src.model.custom")
    module.CustomDetector = CustomDetector  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "src.model.custom", module)
    config = ModelConfig(type="custom", class_path="src.model.custom.CustomDetector")
    assert isinstance(build_network(config, heads=False), CustomDetector)
    assert build_network(config, heads=True).out_channels == 1 + HEAD_CHANNELS


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "no_such.Thing",
            "model.class: cannot import 'no_such.Thing' (No module named 'no_such'); write "
            "package.module.Class of a class on PYTHONPATH.",
        ),
        (
            "collections.OrderedDict",
            "model.class: 'collections.OrderedDict' is no torch.nn.Module; name one that is.",
        ),
    ],
)
def test_what_is_no_network_is_refused(path: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_network(ModelConfig(type="custom", class_path=path), heads=False)
    assert str(caught.value) == message
