import pytest
import torch
from torch import nn

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.skin_lesion.config import ModelConfig
from trainyard_trainer.recipes.skin_lesion.model import (
    HEADS,
    backbone_units,
    build_model,
    recompute_activations,
)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("b0", 4_010_110), ("b1", 6_515_746), ("b2", 7_703_812), ("b3", 10_699_306)],
)
def test_efficientnets_have_the_papers_parameters(variant: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count(build_model(ModelConfig(name="efficientnet", variant=variant))) == parameters


@pytest.mark.parametrize(
    ("variant", "parameters"), [("b0", 5_288_548), ("b1", 7_794_184), ("b2", 9_109_994)]
)
def test_efficientnets_of_1000_classes_are_the_published_ones(
    variant: str, parameters: int
) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        assert count(models.get_model(f"efficientnet_{variant}")) == parameters


def test_baseline_has_four_blocks_and_a_hidden_layer() -> None:
    network = build_model(ModelConfig())
    blocks = sum(9 * a * b + 3 * b for a, b in [(3, 32), (32, 64), (64, 128), (128, 256)])
    assert count(network) == blocks + 256 * 128 + 128 + 128 * 2 + 2 == 422_530
    assert network(torch.zeros(2, 3, 32, 48)).shape == (2, 2)


@pytest.mark.parametrize("name", ["baseline_cnn", "resnet", "efficientnet"])
def test_units_and_head_are_the_whole_network(name: str) -> None:
    config = ModelConfig(name=name)
    network = build_model(config)
    named = [part for unit in backbone_units(config) for part in unit] + [HEADS[name]]
    covered = sum(count(network.get_submodule(part)) for part in named)
    assert covered == count(network)


def test_dropout_rate_is_what_is_asked_for() -> None:
    rates = {
        name: [
            module.p
            for module in build_model(ModelConfig(name=name, dropout_rate=0.3)).modules()
            if isinstance(module, nn.Dropout)
        ]
        for name in HEADS
    }
    assert rates == {"baseline_cnn": [0.3], "resnet": [0.3], "efficientnet": [0.3]}


@pytest.mark.parametrize("name", ["baseline_cnn", "resnet"])
def test_recomputed_activations_give_the_same_gradients(name: str) -> None:
    config = ModelConfig(name=name, dropout_rate=0)
    torch.manual_seed(0)
    plain = build_model(config)
    cheap = build_model(config)
    cheap.load_state_dict(plain.state_dict())
    recompute_activations(cheap, backbone_units(config))
    images = torch.randn(2, 3, 32, 32)
    for network in (plain, cheap):
        network(images).square().sum().backward()
    for one, other in zip(plain.parameters(), cheap.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    assert plain.state_dict().keys() == cheap.state_dict().keys()


def test_absent_published_weights_are_a_sentence(tmp_path) -> None:
    config = ModelConfig(name="resnet", pretrained=True, weights_file=tmp_path / "none.pth")
    with pytest.raises(
        ConfigurationError, match=r"none.pth' with the published weights of 'resnet"
    ):
        build_model(config)


def test_published_weights_are_taken_with_a_new_head(tmp_path) -> None:
    models = pytest.importorskip("torchvision.models")
    published = models.get_model("resnet18")
    torch.save(published.state_dict(), tmp_path / "r18.pth")
    config = ModelConfig(name="resnet", pretrained=True, weights_file=tmp_path / "r18.pth")
    network = build_model(config)
    assert torch.equal(network.get_parameter("conv1.weight"), published.conv1.weight)
    assert network.get_parameter("fc.weight").shape == (2, 512)
