"""Weights to begin with, from a file of ours or of another trainer."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainyard_trainer.console import log
from trainyard_trainer.errors import ConfigurationError

_WRAPPERS = ("model", "state_dict", "model_state_dict", "network")


def load_pretrained(network: nn.Module, file: Path) -> int:
    """Copy every tensor that fits by name and shape; returns how many did.

    Raises ConfigurationError where the file cannot be read or nothing fits.
    """
    known = network.state_dict()
    found = read_weights(file)
    fitting = {
        name: value
        for name, value in found.items()
        if name in known and value.shape == known[name].shape
    }
    if not fitting:
        raise ConfigurationError(
            f"training.pretrained.checkpoint: none of the {len(found)} tensors of '{file}' fits "
            "the network by name and shape; train with the same model section."
        )
    network.load_state_dict(fitting, strict=False)
    log.info("Pretrained: %d of %d tensors from '%s'", len(fitting), len(known), file)
    return len(fitting)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name: a plain state dict, or one below `model`, `state_dict` and the like."""
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"training.pretrained.checkpoint: no file '{file}'; fetch one with `trainyard fetch`."
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigurationError(
            f"training.pretrained.checkpoint: '{file}' is no file of weights "
            f"({str(error).splitlines()[0]}); save a state dict with torch.save."
        ) from error
    for _ in range(2):
        for name in _WRAPPERS:
            if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
                content = content[name]
    pairs = content.items() if isinstance(content, Mapping) else ()
    return {
        str(name).removeprefix("module."): value
        for name, value in pairs
        if isinstance(value, Tensor)
    }
