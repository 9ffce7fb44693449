"""Files into images of [-1, 1], with errors that name the file and the field.

Values that mean the same are mapped the same way: attenuation in 1/cm, clipped to [0, 1], and
Hounsfield units, clipped to [-1000, 2000].
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainyard_trainer.errors import ConfigurationError

Pixels = NDArray[np.float32]
"""(H, W)."""
HU_LOWEST, HU_HIGHEST = -1000.0, 2000.0


class BadFile(ConfigurationError):
    """A file that training cannot use; data.on_bad_file says what then."""

    def __init__(self, file: Path, what: str) -> None:
        self.file = file
        super().__init__(
            f"data: '{file}': {what}; replace the file, or write data.on_bad_file: skip."
        )


def read_attenuation(file: Path, field: str) -> Pixels:
    """A data set of an .h5 file, clipped to [0, 1] and mapped to [-1, 1]. Raises BadFile."""
    clipped: Pixels = read_h5(file, field).clip(0, 1)
    return clipped * 2 - 1


def read_hounsfield(file: Path) -> Pixels:
    """An .npy file in HU, clipped to [-1000, 2000] and mapped to [-1, 1]. Raises BadFile."""
    clipped: Pixels = read_npy(file).clip(HU_LOWEST, HU_HIGHEST)
    middle, half = (HU_LOWEST + HU_HIGHEST) / 2, (HU_HIGHEST - HU_LOWEST) / 2
    return (clipped - middle) / half


def read_h5(file: Path, field: str) -> Pixels:
    """One two-dimensional data set as it is stored. Raises BadFile."""
    import h5py  # A quarter of a second, spent only where there are such files.

    try:
        with h5py.File(file, "r") as opened:
            if field not in opened:
                found = ", ".join(f"'{name}'" for name in opened) or "nothing"
                raise BadFile(file, f"field '{field}' is missing, it holds {found}")
            values = np.asarray(opened[field])
    except FileNotFoundError:
        raise BadFile(file, "does not exist") from None
    except OSError as error:
        raise BadFile(file, f"is truncated or no HDF5 file ({_first_line(error)})") from error
    return _checked(file, f"field '{field}'", values)


def read_npy(file: Path) -> Pixels:
    """One two-dimensional array as it is stored. Raises BadFile."""
    try:
        values = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise BadFile(file, "does not exist") from None
    except (OSError, ValueError, EOFError) as error:
        raise BadFile(file, f"is truncated or no .npy file ({_first_line(error)})") from error
    return _checked(file, "the array", values)


def read_mask(file: Path, index: int, shape: tuple[int, ...]) -> Pixels:
    """Mask `index` of an .npy file (h, w, n), scaled to `shape` (H, W): 0 and 1. Raises BadFile."""
    masks = _masks(file)
    if index >= masks.shape[2]:
        raise BadFile(file, f"has {masks.shape[2]} masks, and mask {index} is asked for")
    mask = Image.fromarray(np.asarray(masks[:, :, index], dtype=np.float32))
    scaled = mask.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return (np.asarray(scaled) > 0.5).astype(np.float32)


@lru_cache(maxsize=4)
def _masks(file: Path) -> NDArray[np.generic]:
    """Mapped, not read: a mask is a small part of the file."""
    try:
        masks = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadFile(file, f"is truncated or no .npy file ({_first_line(error)})") from error
    if masks.ndim != 3:
        raise BadFile(file, f"masks must be (height, width, n), and its shape is {masks.shape}")
    return masks


def _checked(file: Path, field: str, values: NDArray[np.generic]) -> Pixels:
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        shape = "x".join(map(str, values.shape)) or "no"
        raise BadFile(file, f"{field} must be a grey image, and has {shape} {values.dtype} values")
    pixels = values.astype(np.float32)
    bad = int(pixels.size - np.isfinite(pixels).sum())
    if bad:
        raise BadFile(file, f"{field} has {bad} values that are NaN or infinite")
    return pixels


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
