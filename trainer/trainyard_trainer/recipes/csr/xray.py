"""One X-ray from a file: grey values as a radiologist would see them."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainyard_trainer.errors import ConfigurationError

Image.preinit()  # Decoders: before the ranks are forked, not by each of them.

Grey = NDArray[np.uint8]
DICOM_SUFFIXES = (".dicom", ".dcm")
IMAGE_SUFFIXES = (*DICOM_SUFFIXES, ".png", ".jpg", ".jpeg")


class BadXray(ConfigurationError):
    """A file that cannot be trained on."""


def read_xray(file: Path) -> Grey:
    """Any X-ray as (H, W), black for air. Raises BadXray naming the file and what is wrong."""
    try:
        if file.suffix.lower() in DICOM_SUFFIXES:
            return _read_dicom(file)
        with Image.open(file) as image:
            return np.asarray(image.convert("L"))
    except BadXray:
        raise
    except Exception as error:
        if getattr(error, "errno", None) not in (None, errno.ENOENT):
            raise  # The disk's fault, not the file's: another attempt may read it.
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise _bad(file, reason) from error


def resize(image: Grey, size: int) -> Grey:
    """(size, size), bilinear; the ratio of the sides is lost, so that boxes stay shares of them."""
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _read_dicom(file: Path) -> Grey:
    import pydicom  # A fifth of a second, spent only where it is needed.

    data = pydicom.dcmread(file)
    kind = str(data.get("PhotometricInterpretation", "absent"))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise _bad(file, f"PhotometricInterpretation is {kind}; an X-ray has MONOCHROME1 or 2")
    if "PixelData" not in data:
        raise _bad(file, "it has no PixelData")
    values = _window(data, pydicom)
    low, high = float(values.min()), float(values.max())
    if not high > low:
        raise _bad(file, f"all pixels are {low:g}")
    grey = (values - low) / (high - low)
    if kind == "MONOCHROME1":  # Its lowest value is white.
        grey = 1 - grey
    pixels: Grey = (grey * 255).round().astype(np.uint8)
    return pixels


def _window(data: Any, pydicom: Any) -> NDArray[np.float64]:
    """Pixels through the modality's and the first of the reader's tables or windows."""
    stored = pydicom.pixels.apply_modality_lut(data.pixel_array, data)
    shown: NDArray[np.float64] = pydicom.pixels.apply_voi_lut(stored, data).astype(np.float64)
    return shown


def _bad(file: Path, reason: str) -> BadXray:
    return BadXray(
        f"data: cannot read X-ray '{file}' ({reason}); replace it, take it out of the labels, or "
        "write data.bad_files: skip."
    )
