"""Bring downloaded images into the layouts that training reads.

    python -m trainyard_trainer.recipes.mar_gan.prepare --dataset syndeeplesion \
        --input_dir RAW --output_dir DIR
    python -m trainyard_trainer.recipes.mar_gan.prepare --dataset spineweb \
        --artifact_dir WITH --clean_dir WITHOUT --output_dir DIR

SynDeepLesion, RAW as downloaded: `train_640geo`, `test_640geo` and the masks. Every file is opened
once; what is whole is linked (or copied to another disk), and the lists are written. SpineWeb:
pairs of equal names, split by patient.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.mar_gan.layouts import (
    WITH_METAL,
    WITHOUT_METAL,
    Scene,
    hold_out,
    list_split,
)
from trainyard_trainer.recipes.mar_gan.reading import BadFile, read_h5, read_npy

SPLITS = ("train", "test")


def prepare_syndeeplesion(input_dir: Path, output_dir: Path, *, skips: bool) -> dict[str, int]:
    """Returns slices by split, and files left out. Raises ConfigurationError."""
    counts = {"train": 0, "test": 0, "left out": 0}
    for split in SPLITS:
        listing = list_split(input_dir, split, skips=skips)
        counts["left out"] += listing.unpaired
        lines = []
        for scene in listing.scenes:
            kept, bad = _check_slice(scene, skips=skips)
            counts["left out"] += bad
            if kept:
                lines.append(_place_slice(scene, kept, output_dir / f"{split}_640geo"))
        listed = output_dir / f"{split}_640geo_dir.txt"
        output_dir.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        masks = input_dir / f"{split}mask.npy"
        if masks.is_file():
            place(masks, output_dir / masks.name)
        counts[split] = len(lines)
    return counts


def prepare_spineweb(
    artifact_dir: Path, clean_dir: Path, output_dir: Path, *, test_share: float, skips: bool
) -> dict[str, int]:
    """Pairs of `<name>.npy` in HU. Returns them by split, and files left out."""
    names = {
        folder: {file.name for file in folder.rglob("*.npy")}
        for folder in (artifact_dir, clean_dir)
    }
    odd = sorted(names[artifact_dir] ^ names[clean_dir])
    if odd and not skips:
        there, other = (
            (artifact_dir, clean_dir)
            if odd[0] in names[artifact_dir]
            else (clean_dir, artifact_dir)
        )
        raise BadFile(there / odd[0], f"'{other}' has no file of this name")
    pairs, bad = [], len(odd)
    for name in sorted(names[artifact_dir] & names[clean_dir]):
        scene = _pair(artifact_dir, clean_dir, name)
        try:
            for file in (scene.target, *scene.artefacts):
                read_npy(file)
            pairs.append(scene)
        except BadFile:
            if not skips:
                raise
            bad += 1
    if not pairs:
        raise ConfigurationError(f"data: '{artifact_dir}' and '{clean_dir}' share no .npy file.")
    train, test = hold_out(pairs, test_share, seed=0)
    for split, scenes in zip(SPLITS, (train, test), strict=True):
        for scene in scenes:
            place(scene.artefacts[0], output_dir / split / WITH_METAL / scene.target.name)
            place(scene.target, output_dir / split / WITHOUT_METAL / scene.target.name)
    return {"train": len(train), "test": len(test), "left out": bad}


def place(source: Path, target: Path) -> None:
    """A hard link, or a copy where the target lies on another disk; replaces what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _check_slice(scene: Scene, *, skips: bool) -> tuple[list[Path], int]:
    """The artefact files that are whole, none where the target is not, and how many are not."""
    kept: list[Path] = []
    bad = 0
    files = [(scene.target, ("image",)), *((file, ("ma_CT", "LI_CT")) for file in scene.artefacts)]
    for file, fields in files:
        try:
            for field in fields:
                read_h5(file, field)
            kept.append(file)
        except BadFile:
            if not skips:
                raise
            bad += 1
    return (kept[1:] if scene.target in kept else []), bad


def _place_slice(scene: Scene, kept: Sequence[Path], folder: Path) -> str:
    """Returns the line for the list."""
    name = "/".join(scene.target.parts[-3:-1])
    for file in (scene.target, *kept):
        place(file, folder / name / file.name)
    return f"{folder.name}/{name}/{scene.target.name}"


def _pair(artifact_dir: Path, clean_dir: Path, name: str) -> Scene:
    stem = Path(name).stem
    return Scene(
        patient=stem.rpartition("_")[0] or stem,
        target=next(clean_dir.rglob(name)),
        artefacts=(next(artifact_dir.rglob(name)),),
    )


def build_parser() -> argparse.ArgumentParser:
    """The guide's flags."""
    parser = argparse.ArgumentParser(description="Bring downloaded images into a training layout.")
    parser.add_argument("--dataset", choices=["syndeeplesion", "spineweb"], required=True)
    parser.add_argument("--input_dir", type=Path, help="SynDeepLesion as downloaded")
    parser.add_argument("--artifact_dir", type=Path, help="SpineWeb images with metal, .npy in HU")
    parser.add_argument("--clean_dir", type=Path, help="the same without, under the same names")
    parser.add_argument("--output_dir", type=Path, required=True, help="made if absent")
    parser.add_argument("--test_share", type=float, default=0.1, help="SpineWeb: of the patients")
    parser.add_argument("--skip_bad_files", action="store_true", help="count them and go on")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    needed = ("input_dir",) if options.dataset == "syndeeplesion" else ("artifact_dir", "clean_dir")
    for name in needed:
        folder = getattr(options, name)
        if folder is None:
            parser.error(f"--{name}: is needed for --dataset {options.dataset}")
        if not folder.is_dir():
            parser.error(f"--{name}: there is no folder '{folder}'")
    try:
        counts = _prepare(options)
    except ConfigurationError as error:
        text = str(error).replace("write data.on_bad_file: skip", "add --skip_bad_files")
        parser.exit(2, f"error: {text}\n")
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"Prepared {options.output_dir}: {told}.")


def _prepare(options: argparse.Namespace) -> dict[str, int]:
    skips, output = options.skip_bad_files, options.output_dir
    if options.dataset == "syndeeplesion":
        return prepare_syndeeplesion(options.input_dir, output, skips=skips)
    return prepare_spineweb(
        options.artifact_dir,
        options.clean_dir,
        output,
        test_share=options.test_share,
        skips=skips,
    )


if __name__ == "__main__":
    main()
