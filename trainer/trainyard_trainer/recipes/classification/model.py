"""Networks by name: a small one for small images, and four of torchvision's.

small_cnn: three blocks of 3x3 convolution without bias, batch norm, ReLU and 2x2 max pooling with
16, 32 and 64 channels, then a global average and a linear layer; 24,346 parameters for ten classes.
resnet18, resnet50 (He et al. 2015, arxiv.org/abs/1512.03385), efficientnet_b0 (Tan & Le 2019,
arxiv.org/abs/1905.11946), mobilenet_v2 (Sandler et al. 2018, arxiv.org/abs/1801.04381).
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.classification.config import ModelConfig

_STEM_CHANNELS = 16
_BLOCKS = 3


class SmallCNN(nn.Module):
    """The three-block network; takes any image of at least 8x8 pixels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 3
        for block in range(_BLOCKS):
            width = _STEM_CHANNELS << block
            blocks += [
                nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            channels = width
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W). Returns logits (B, classes)."""
        features: Tensor = self.features(images)  # (B, 64, H/8, W/8)
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def build_model(config: ModelConfig, classes: int) -> nn.Module:
    """The configured network with `classes` outputs.

    Raises ConfigurationError where published weights are asked for and cannot be read.
    """
    if config.architecture == "small_cnn":
        return SmallCNN(classes)
    # Half a second, spent only where it is needed.
    models = importlib.import_module("torchvision.models")
    if config.weights is None:
        network: nn.Module = models.get_model(config.architecture, num_classes=classes)
        return network
    return published(config.architecture, config.weights_file, classes)


def published(architecture: str, file: Path | None, classes: int) -> nn.Module:
    """A network of torchvision's with its ImageNet weights and a new last layer.

    file: with the weights; None: torch.hub's cache. Raises ConfigurationError where they cannot be
    read.
    """
    models = importlib.import_module("torchvision.models")
    network: nn.Module = models.get_model(architecture)
    _load_published(network, architecture, file or _hub_file(architecture, models))
    replace_head(network, nn.Linear(head_of(network).in_features, classes))
    return network


def count_parameters(module: nn.Module) -> int:
    """Trainable and frozen parameters, without buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


def _load_published(network: nn.Module, architecture: str, file: Path) -> None:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"model.weights: no file '{file}' with the published weights of "
            f"'{architecture}'; put it there, name it in model.weights_file, or write "
            "weights: null to start from scratch."
        ) from error
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"model.weights: '{file}' does not hold the weights of '{architecture}' "
            f"({reason}); download it again, or write weights: null."
        ) from error


def _hub_file(architecture: str, models: object) -> Path:
    """Where torch.hub keeps the published weights: nothing is downloaded by a training run."""
    weights = models.get_model_weights(architecture).DEFAULT  # type: ignore[attr-defined]
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


def head_of(network: nn.Module) -> nn.Linear:
    """The last linear layer: `fc` of a ResNet, the end of `classifier` of the others."""
    last: Any = getattr(network, "fc", None) or network.classifier
    found = last[-1] if isinstance(last, nn.Sequential) else last
    assert isinstance(found, nn.Linear)  # noqa: S101
    return found


def replace_head(network: nn.Module, head: nn.Module) -> None:
    """Put another layer in its place."""
    if isinstance(getattr(network, "fc", None), nn.Module):
        network.fc = head
    else:
        classifier: Any = network.classifier
        classifier[-1] = head
