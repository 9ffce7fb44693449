"""Read and write CT volumes through SimpleITK: MetaImage (.mhd with .raw), .mha, NIfTI and DICOM.

The header is read first and the voxels when they are needed, whole or a region of them. Errors are
sentences that name the file: see `Unusable`.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.lung_nodule.grid import Grid, Triple

SUFFIXES = (".mhd", ".mha", ".nii", ".nii.gz", ".nrrd")
AIR_HU = -1000.0
"""What lies outside of a scan."""
_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4}
_BYTES["DOUBLE"] = 8
Voxels = NDArray[np.float32]


class Unusable(ConfigurationError):
    """A volume that cannot be read or trusted; the message is one sentence with its file."""

    def __init__(self, file: Path, problem: str) -> None:
        self.file, self.problem = file, problem
        super().__init__(f"data: volume '{file}' {problem}; replace it or take it out.")


def find_volumes(directory: Path) -> list[Path]:
    """Volume files of a folder and its DICOM series (folders of .dcm files), sorted by name."""
    found = [file for file in directory.iterdir() if _is_volume(file)]
    return sorted(found, key=uid_of)


def uid_of(file: Path) -> str:
    """A file's name without its ending: the series' UID in LUNA16."""
    name = file.name
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def read_grid(file: Path) -> Grid:
    """Shape and place of a volume from its header. Raises Unusable."""
    _refuse_truncated(file)
    if file.is_dir():
        return grid_of(_read_image(file))
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise Unusable(file, f"has no readable header ({_reason(error)})") from error
    if reader.GetDimension() != 3:
        raise Unusable(file, f"has {reader.GetDimension()} dimensions where 3 are expected")
    return _build_grid(
        reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
    )


def holds_floats(file: Path) -> bool:
    """Whether voxels may be NaN at all. Raises Unusable."""
    if file.is_dir():
        return False
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    return reader.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64)


def read_volume(file: Path, spacing: Triple | None = None) -> tuple[Voxels, Grid]:
    """All voxels (D, H, W) in HU, resampled (linear) to `spacing` if given. Raises Unusable."""
    _refuse_truncated(file)
    image = _read_image(file)
    _refuse_nan(file, sitk.GetArrayViewFromImage(image))
    if spacing is not None:
        image = _resample(image, grid_of(image).resampled(spacing))
    return _as_floats(image), grid_of(image)


def read_region(file: Path, start: list[int], size: list[int]) -> Voxels:
    """A box inside of a volume, without reading the rest where the format allows. z, y, x."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetExtractIndex(start[::-1])
    reader.SetExtractSize(size[::-1])
    try:
        voxels = _as_floats(reader.Execute())
    except RuntimeError as error:
        raise Unusable(file, f"cannot be read ({_reason(error)})") from error
    _refuse_nan(file, voxels)
    return voxels


def write_volume(file: Path, voxels: NDArray[np.generic], grid: Grid) -> None:
    """Write `file`, with its .raw beside it for .mhd. voxels: (D, H, W)."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin[::-1])
    image.SetDirection(np.asarray(grid.axes)[::-1, ::-1].ravel().tolist())
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file), useCompression=False)


class VolumeCache:
    """Volumes read last, up to so many bytes; what does not fit is read region by region."""

    def __init__(self, most_bytes: int, spacing: Triple | None) -> None:
        self._most_bytes, self._spacing = most_bytes, spacing
        self._kept: OrderedDict[Path, Voxels] = OrderedDict()
        self._bytes = 0

    def whole(self, file: Path) -> Voxels:
        """All voxels at the configured spacing."""
        if file in self._kept:
            self._kept.move_to_end(file)
            return self._kept[file]
        voxels, _ = read_volume(file, self._spacing)
        self._keep(file, voxels)
        return voxels

    def region(self, file: Path, grid: Grid, start: list[int], size: list[int]) -> Voxels:
        """A box that may reach beyond the volume, where it is filled with air."""
        first = [max(0, one) for one in start]
        ends = zip(start, size, grid.shape, strict=True)
        last = [min(at + extent, whole) for at, extent, whole in ends]
        box = np.full(size, AIR_HU, dtype=np.float32)
        if any(end <= begin for begin, end in zip(first, last, strict=True)):
            return box
        source = tuple(slice(begin, end) for begin, end in zip(first, last, strict=True))
        target = tuple(
            slice(s.start - at, s.stop - at) for s, at in zip(source, start, strict=True)
        )
        is_small = 4 * int(np.prod(grid.shape)) <= self._most_bytes
        if is_small or self._spacing is not None or file.is_dir():
            box[target] = self.whole(file)[source]
        else:
            box[target] = read_region(file, first, [s.stop - s.start for s in source])
        return box

    def _keep(self, file: Path, voxels: Voxels) -> None:
        if voxels.nbytes > self._most_bytes:
            return
        self._kept[file] = voxels
        self._bytes += voxels.nbytes
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes


def grid_of(image: sitk.Image) -> Grid:
    """Where an image lies."""
    return _build_grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _build_grid(size: object, spacing: object, origin: object, direction: object) -> Grid:
    """From SimpleITK's order, x, y, z."""
    depth, height, width = np.asarray(size)[::-1].tolist()
    axes = np.asarray(direction).reshape(3, 3)[::-1, ::-1]
    return Grid(
        shape=(depth, height, width),
        spacing=_triple(np.asarray(spacing)[::-1]),
        origin=_triple(np.asarray(origin)[::-1]),
        axes=(_triple(axes[0]), _triple(axes[1]), _triple(axes[2])),
    )


def _triple(values: NDArray[np.generic]) -> Triple:
    first, second, third = values.tolist()
    return float(first), float(second), float(third)


def _is_volume(file: Path) -> bool:
    if file.is_dir():
        return any(file.glob("*.dcm"))
    return file.name.endswith(SUFFIXES)


def _read_image(file: Path) -> sitk.Image:
    try:
        if file.is_dir():
            reader = sitk.ImageSeriesReader()
            # Sorted by position along the slices' normal: neither file names nor thickness say it.
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(file)))
            return reader.Execute()
        return sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise Unusable(file, f"cannot be read ({_reason(error)})") from error


def _refuse_truncated(file: Path) -> None:
    """ITK fills up what a .raw lacks, or says only that reading failed."""
    if file.suffix != ".mhd" or not file.is_file():
        return
    pairs = (line.split("=", 1) for line in file.read_text(errors="replace").splitlines())
    header = {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
    name = header.get("ElementDataFile", "")
    size_of = _BYTES.get(header.get("ElementType", "").removeprefix("MET_"))
    is_compressed = header.get("CompressedData", "False").lower() == "true"
    if size_of is None or is_compressed or name in ("LOCAL", "LIST", "") or "%" in name:
        return
    raw = file.parent / name
    expected = int(np.prod([int(side) for side in header["DimSize"].split()])) * size_of
    found = raw.stat().st_size if raw.is_file() else None
    if found is None:
        raise Unusable(file, f"has no voxels: '{raw.name}' is not beside it")
    if found < expected:
        raise Unusable(file, f"is truncated: '{raw.name}' has {found} of {expected} bytes")


def _refuse_nan(file: Path, voxels: NDArray[np.generic]) -> None:
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        bad = int((~np.isfinite(voxels)).sum())
        raise Unusable(file, f"holds {bad} voxels that are NaN or infinite")


def _resample(image: sitk.Image, grid: Grid) -> sitk.Image:
    return sitk.Resample(
        image,
        size=grid.shape[::-1],  # type: ignore[arg-type]
        transform=sitk.Transform(),
        interpolator=sitk.sitkLinear,
        outputOrigin=image.GetOrigin(),
        outputSpacing=grid.spacing[::-1],
        outputDirection=image.GetDirection(),
        defaultPixelValue=AIR_HU,
        outputPixelType=sitk.sitkFloat32,
    )


def _as_floats(image: sitk.Image) -> Voxels:
    voxels: Voxels = sitk.GetArrayFromImage(image).astype(np.float32)
    return voxels


def _reason(error: Exception) -> str:
    """ITK's messages are pages; their last line says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
