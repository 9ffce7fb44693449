"""Backbones that turn images into feature maps, and their published weights.

medmae and vit are ViT-B/16 (Dosovitskiy et al. 2020, arxiv.org/abs/2010.11929), which masked
autoencoders are pre-trained with (He et al. 2021, arxiv.org/abs/2111.06377; on X-rays: Xiao et al.
2022, arxiv.org/abs/2210.12843). resnet50: He et al. 2015, arxiv.org/abs/1512.03385.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainyard_trainer.errors import ConfigurationError

_PATCH = 16
_VIT_WIDTH = 768
_RESNET_WIDTH = 2048
_SMALL_WIDTHS = (16, 32, 64, 64)
_WRAPPERS = ("model", "state_dict", "teacher")
"""Keys under which published files hold the state dict."""
_LEFT_OUT = ("decoder", "mask_token", "head", "fc.", "classifier")
"""Beginnings of keys that a trunk has no use for."""


class VitTrunk(nn.Module):
    """ViT-B/16 without its head: 85,798,656 parameters at 224 pixels."""

    width = _VIT_WIDTH

    def __init__(self, image_size: int) -> None:
        super().__init__()
        timm = importlib.import_module("timm")
        self.vit = timm.create_model(
            "vit_base_patch16_224", num_classes=0, img_size=image_size, global_pool=""
        )

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, S, S). Returns (B, 768, S/16, S/16)."""
        tokens: Tensor = self.vit(images)[:, self.vit.num_prefix_tokens :]  # (B, N, 768)
        side = images.shape[-1] // _PATCH
        return tokens.transpose(1, 2).reshape(len(images), self.width, side, side)


class ResNetTrunk(nn.Module):
    """ResNet-50 up to its last block."""

    width = _RESNET_WIDTH

    def __init__(self) -> None:
        super().__init__()
        network = importlib.import_module("torchvision.models").resnet50()
        network.fc = nn.Identity()
        self.resnet = network

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, S, S). Returns (B, 2048, S/32, S/32)."""
        net = self.resnet
        found = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        features: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(found))))
        return features


class SmallTrunk(nn.Module):
    """Four convolutions of stride 2 but the last, for small images and tests."""

    width = _SMALL_WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 3
        for number, width in enumerate(_SMALL_WIDTHS):
            stride = 2 if number < len(_SMALL_WIDTHS) - 1 else 1
            blocks += [
                nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.layers = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, S, S). Returns (B, 64, S/8, S/8)."""
        features: Tensor = self.layers(images)
        return features


Trunk = VitTrunk | ResNetTrunk | SmallTrunk


def build_backbone(name: str, image_size: int) -> Trunk:
    """name: medmae, vit, resnet50 or small. image_size: side of the images, in pixels."""
    if name == "small":
        return SmallTrunk()
    if name == "resnet50":
        return ResNetTrunk()
    if image_size % _PATCH:
        raise ConfigurationError(
            f"data.image_size: {image_size} is no multiple of {_PATCH}, which '{name}' cuts images "
            f"into; write {round(image_size / _PATCH) * _PATCH}."
        )
    return VitTrunk(image_size)


def load_published(trunk: Trunk, file: Path) -> None:
    """Start from the weights in `file`. Raises ConfigurationError where they do not fit."""
    network: nn.Module = next(trunk.children())
    try:
        state = trunk_state(read_state(file))
        missing, unexpected = network.load_state_dict(state, strict=False)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"model.weights_file: no file '{file}'; put the published weights there, or write "
            "null to start from scratch."
        ) from error
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"model.weights_file: '{file}' does not hold weights of this backbone ({reason}); "
            "name another file, or write null."
        ) from error
    if missing or unexpected:
        strange = (missing or unexpected)[0]
        what = "lacks" if missing else "has a foreign"
        raise ConfigurationError(
            f"model.weights_file: '{file}' {what} '{strange}'; name a file with weights of this "
            "backbone, or write null."
        )


def read_state(file: Path) -> Mapping[str, Tensor]:
    """The tensors by name, out of what published files wrap them in; never runs code of theirs."""
    if file.suffix == ".safetensors":
        loaded: Any = importlib.import_module("safetensors.torch").load_file(file)
    else:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    for wrapper in _WRAPPERS:
        if wrapper in loaded and isinstance(loaded[wrapper], Mapping):
            loaded = loaded[wrapper]
    state: Mapping[str, Tensor] = loaded
    return state


def trunk_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without decoder, mask token and head; in timm's names where it is a Hugging Face ViT-MAE."""
    if any(".encoder.layer." in key or key.startswith("encoder.layer.") for key in state):
        state = _from_hugging_face({key.removeprefix("vit."): state[key] for key in state})
    return {key: value for key, value in state.items() if not key.startswith(_LEFT_OUT)}


_HUGGING_FACE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
_HUGGING_FACE_BLOCK = {
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
}


def _from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(_LEFT_OUT):
            continue
        name, _, leaf = key.rpartition(".")
        if key in _HUGGING_FACE:
            found[_HUGGING_FACE[key]] = value
        elif name in _HUGGING_FACE:
            found[f"{_HUGGING_FACE[name]}.{leaf}"] = value
        elif name.startswith("encoder.layer."):
            number, _, part = name.removeprefix("encoder.layer.").partition(".")
            if part == "attention.attention.query":
                parts = [
                    state[f"encoder.layer.{number}.attention.attention.{which}.{leaf}"]
                    for which in ("query", "key", "value")
                ]
                found[f"blocks.{number}.attn.qkv.{leaf}"] = torch.cat(parts)
            elif part in _HUGGING_FACE_BLOCK:
                found[f"blocks.{number}.{_HUGGING_FACE_BLOCK[part]}.{leaf}"] = value
    return found
