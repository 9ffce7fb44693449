"""What lies where: the two public layouts, listed without opening an image.

SynDeepLesion: `{train,test}_640geo/<patient>_<study>_<series>/<slice>/` with `gt.h5` (image) and
`0.h5`, `1.h5`, ... (ma_CT, LI_CT), beside `{train,test}_640geo_dir.txt`, whose lines end in
`<series>/<slice>/gt.h5`, and `{train,test}mask.npy`, whose mask i made artefact image i.

SpineWeb (UWSpine_adn): `{train,test}/synthesized_metal_transfer/*.npy` and `no_metal/*.npy` of the
same names, in HU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.mar_gan.reading import (
    BadFile,
    Pixels,
    read_attenuation,
    read_hounsfield,
    read_mask,
)

WITH_METAL, WITHOUT_METAL = "synthesized_metal_transfer", "no_metal"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A slice without metal, and the same with one metal each."""

    patient: str
    target: Path
    artefacts: tuple[Path, ...]
    masks: Path | None = None
    """Holds the metal of artefact file `<i>.h5` as mask i; None: there is none."""

    @property
    def is_hounsfield(self) -> bool:
        """Whether the files are SpineWeb's."""
        return self.target.suffix == ".npy"

    def read_target(self) -> Pixels:
        """(H, W) in [-1, 1]. Raises BadFile, as the others do."""
        if self.is_hounsfield:
            return read_hounsfield(self.target)
        return read_attenuation(self.target, "image")

    def read_artefact(self, number: int) -> Pixels:
        """(H, W) in [-1, 1]: the slice with its metal `number`."""
        file = self.artefacts[number]
        return read_hounsfield(file) if self.is_hounsfield else read_attenuation(file, "ma_CT")

    def read_interpolated(self, number: int) -> Pixels | None:
        """The same, the metal's trace linearly interpolated; SpineWeb has none."""
        if self.is_hounsfield:
            return None
        return read_attenuation(self.artefacts[number], "LI_CT")

    def read_metal(self, number: int, shape: tuple[int, ...]) -> Pixels | None:
        """0 or 1, scaled to `shape` (H, W), where the data set has masks."""
        if self.masks is None:
            return None
        return read_mask(self.masks, int(self.artefacts[number].stem), shape)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One split as it was found."""

    scenes: list[Scene]
    unpaired: int = 0
    """Files left out because their other half is missing."""


def list_split(path: Path, split: str, *, skips: bool) -> Listing:
    """The scenes of `train` or `test` below `path`, in a fixed order.

    skips: leave out what has no other half, and count it. Raises ConfigurationError otherwise, and
    where there is neither layout or nothing in it.
    """
    found = _find(path, split)
    if found is None:
        raise ConfigurationError(
            f"data: '{path}' holds neither {split}_640geo/ (SynDeepLesion) nor "
            f"{WITH_METAL}/ or {split}/{WITH_METAL}/ (SpineWeb); correct data.{split}_path."
        )
    listing = found(skips)
    if not listing.scenes:
        raise ConfigurationError(f"data: split '{split}' of '{path}' has no images.")
    return listing


def hold_out(scenes: Sequence[Scene], share: float, seed: int) -> tuple[list[Scene], list[Scene]]:
    """What is left for training, and `share` of the patients for validation, at least one.

    No patient is in both. Raises ConfigurationError where there is one patient alone.
    """
    patients = sorted({scene.patient for scene in scenes})
    if len(patients) < 2:
        raise ConfigurationError(
            f"data: the training split has images of one patient alone, '{patients[0]}'; at least "
            "2 are needed, one of them for validation."
        )
    count = min(len(patients) - 1, max(1, round(share * len(patients))))
    order = np.random.default_rng(seed).permutation(len(patients))
    held = {patients[index] for index in order[:count]}
    train = [scene for scene in scenes if scene.patient not in held]
    return train, [scene for scene in scenes if scene.patient in held]


def _find(path: Path, split: str) -> Callable[[bool], Listing] | None:
    if (path / f"{split}_640geo").is_dir():
        return lambda skips: _list_syndeeplesion(path, split, skips=skips)
    for root in (path, path / split):
        if (root / WITH_METAL).is_dir():
            return lambda skips: _list_spineweb(root, skips=skips)
    return None


def _list_syndeeplesion(path: Path, split: str, *, skips: bool) -> Listing:
    root, masks = path / f"{split}_640geo", path / f"{split}mask.npy"
    scenes, unpaired = [], 0
    for target in _targets(path, split, root):
        files = (file for file in target.parent.glob("*.h5") if file.stem.isdecimal())
        artefacts = tuple(sorted(files, key=lambda file: int(file.stem)))
        if target.is_file() and artefacts:
            scene = Scene(
                patient=target.parent.parent.name.partition("_")[0],
                target=target,
                artefacts=artefacts,
                masks=masks if masks.is_file() else None,
            )
            scenes.append(scene)
        elif skips:
            unpaired += 1
        else:
            lacks = "0.h5 and the like" if target.is_file() else "gt.h5"
            raise BadFile(target.parent, f"{lacks} is missing")
    return Listing(scenes=scenes, unpaired=unpaired)


def _targets(path: Path, split: str, root: Path) -> list[Path]:
    """Of the list beside the folder, or else of the folder itself."""
    listed = path / f"{split}_640geo_dir.txt"
    if not listed.is_file():
        return sorted(slice_ / "gt.h5" for slice_ in root.glob("*/*") if slice_.is_dir())
    lines = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines()]
    found = []
    for number, line in enumerate(lines, start=1):
        parts = line.replace("\\", "/").split("/")
        if line and (len(parts) < 3 or parts[-1] != "gt.h5"):
            raise ConfigurationError(
                f"data: '{listed}' line {number}: '{line}' does not end in "
                "<series>/<slice>/gt.h5; correct the line."
            )
        if line:
            found.append(root.joinpath(*parts[-3:]))
    return found


def _list_spineweb(root: Path, *, skips: bool) -> Listing:
    with_metal, without = (
        {file.name: file for file in (root / name).glob("*.npy")}
        for name in (WITH_METAL, WITHOUT_METAL)
    )
    odd = sorted(set(with_metal) ^ set(without))
    if odd and not skips:
        there, lacks = (
            (WITH_METAL, WITHOUT_METAL) if odd[0] in with_metal else (WITHOUT_METAL, WITH_METAL)
        )
        raise BadFile(root / there / odd[0], f"{lacks}/ has no file of this name")
    scenes = [
        Scene(
            patient=Path(name).stem.rpartition("_")[0] or Path(name).stem,
            target=without[name],
            artefacts=(with_metal[name],),
        )
        for name in sorted(set(with_metal) & set(without))
    ]
    return Listing(scenes=scenes, unpaired=len(odd))
