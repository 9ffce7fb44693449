"""A new CT image without its metal artefacts, in the units in which it came."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from trainyard_trainer.config import Section
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.predictions import Prediction
from trainyard_trainer.recipes.mar_gan.reading import (
    HU_HIGHEST,
    HU_LOWEST,
    BadFile,
    Pixels,
    read_attenuation,
    read_hounsfield,
)

_UNITS = {".npy": (HU_LOWEST, HU_HIGHEST, "HU"), ".h5": (0.0, 1.0, "1/cm")}
"""By suffix: what -1 and 1 stand for."""


class PredictOptions(Section):
    """What prediction can be told."""

    field: str = "ma_CT"
    """Of an .h5 file: where the image lies in it."""


def correct_file(
    network: nn.Module, file: Path, options: PredictOptions, threshold: float
) -> Prediction:
    """`<name>.npy` as float32 (H, W), `<name>.png` to look at, and a row of what was done.

    threshold: of metal, in -1..1. Raises ConfigurationError naming the file.
    """
    suffix = file.suffix.lower()
    if suffix not in _UNITS:
        raise ConfigurationError(
            f"'{file}' is no CT image that can be read here; give an .npy in HU, or an .h5 of "
            "SynDeepLesion."
        )
    artefact = _read(file, options.field)
    device = next(network.parameters()).device
    found = network(torch.from_numpy(artefact)[None, None].to(device)).float()
    corrected: Pixels = found[0, 0].clamp(-1, 1).cpu().numpy()
    low, high, unit = _UNITS[suffix]
    changed = float(np.abs(corrected - artefact).mean()) * (high - low) / 2
    metal = int((artefact > threshold).sum())
    files = {
        f"{file.stem}.npy": _as_npy((corrected + 1) / 2 * (high - low) + low),
        f"{file.stem}.png": _as_png(corrected),
    }
    return Prediction(
        columns=["file", "corrected", "picture", "unit", "mean_change", "metal_pixels"],
        rows=[[str(file), *files, unit, changed, metal]],
        files=files,
    )


def _read(file: Path, field: str) -> Pixels:
    try:
        is_npy = file.suffix.lower() == ".npy"
        return read_hounsfield(file) if is_npy else read_attenuation(file, field)
    except BadFile as error:
        text = str(error).replace(", or write data.on_bad_file: skip", "")
        raise ConfigurationError(text) from error


def _as_npy(pixels: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels.astype(np.float32))
    return buffer.getvalue()


def _as_png(pixels: Pixels) -> bytes:
    """-1 black, 1 white."""
    buffer = io.BytesIO()
    grey = ((pixels + 1) * 127.5).round().astype(np.uint8)
    Image.fromarray(grey).save(buffer, format="PNG")
    return buffer.getvalue()
