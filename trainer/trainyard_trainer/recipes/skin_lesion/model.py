"""Three families of networks, and which of their parts are the backbone.

baseline_cnn: blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pooling, a global average,
then linear, ReLU, dropout, linear; 422,530 parameters. resnet: He et al. 2015,
arxiv.org/abs/1512.03385. efficientnet b0-b4: Tan & Le 2019, arxiv.org/abs/1905.11946; 5,288,548
parameters for b0 with 1000 classes.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainyard_trainer.recipes.classification.model import head_of, published, replace_head
from trainyard_trainer.recipes.skin_lesion.config import ModelConfig

HEADS = {"baseline_cnn": "classifier", "resnet": "fc", "efficientnet": "classifier"}
"""What stays trainable while the backbone is frozen."""


class BaselineCNN(nn.Module):
    """The small network; takes any image of at least 2^blocks pixels a side."""

    def __init__(
        self, classes: int, channels: Sequence[int], hidden: int, dropout_rate: float
    ) -> None:
        super().__init__()
        blocks = []
        width = 3
        for next_width in channels:
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(width, next_width, kernel_size=3, padding=1),
                    nn.BatchNorm2d(next_width),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
            )
            width = next_width
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout_rate),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W). Returns logits (B, classes)."""
        features: Tensor = self.features(images)  # (B, C, H / 2^blocks, W / 2^blocks)
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def build_model(config: ModelConfig) -> nn.Module:
    """The configured network. Raises ConfigurationError where its weights cannot be read."""
    if config.name == "baseline_cnn":
        layers = config.architecture
        rate = 0.5 if config.dropout_rate is None else config.dropout_rate
        return BaselineCNN(config.num_classes, layers.channels, layers.classifier_hidden, rate)
    name = architecture_name(config)
    if config.pretrained:
        network = published(name, config.weights_file, config.num_classes)
    else:
        models = importlib.import_module("torchvision.models")
        network = models.get_model(name, num_classes=config.num_classes)
    if config.dropout_rate is not None:
        _set_dropout(network, config.dropout_rate)
    return network


def architecture_name(config: ModelConfig) -> str:
    """As torchvision calls it."""
    if config.name == "resnet":
        return f"resnet{config.depth}"
    return f"efficientnet_{config.variant}"


def backbone_units(config: ModelConfig) -> list[tuple[str, ...]]:
    """Parts of the backbone from the image on, by the names of their modules."""
    if config.name == "resnet":
        return [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)]
    count = config.architecture.conv_blocks if config.name == "baseline_cnn" else 9
    return [(f"features.{number}",) for number in range(count)]


def recompute_activations(network: nn.Module, units: Sequence[tuple[str, ...]]) -> None:
    """Gradient checkpointing (Chen et al. 2016, arxiv.org/abs/1604.06174) of each unit that is a
    sequence of layers; names of parameters stay as they are."""
    for name in (name for unit in units for name in unit):
        module = network.get_submodule(name)
        if isinstance(module, nn.Sequential):
            module.forward = partial(_recomputed, module.forward)  # type: ignore[method-assign]


def _recomputed(forward: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(features)
    found: Tensor = checkpoint(forward, features, use_reentrant=False)
    return found


def _set_dropout(network: nn.Module, rate: float) -> None:
    """EfficientNet has a dropout before its last layer; a ResNet gets one where there is a rate."""
    classifier: Any = getattr(network, "classifier", None)
    if isinstance(classifier, nn.Sequential) and isinstance(classifier[0], nn.Dropout):
        classifier[0].p = rate
    elif rate:
        replace_head(network, nn.Sequential(nn.Dropout(rate), head_of(network)))
