"""Small data sets in the two layouts, made of noise: what reading needs, and nothing to learn."""

from pathlib import Path

import numpy as np

from trainyard_trainer.recipes.mar_gan.synth import write_h5

MODEL = {
    "generator": {
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "ngrams": [2, 2, 2],
        "window_size": 4,
        "decoder_depth": 1,
        "decoder_heads": 2,
    },
    "discriminator": {"num_scales": 1, "base_channels": 4},
}
"""Networks of milliseconds."""


def write_syndeeplesion(
    root: Path, *, patients: int = 3, slices: int = 2, metals: int = 3, side: int = 40
) -> Path:
    """The same names in both splits; every image is drawn by its own path."""
    for split in ("train", "test"):
        lines = []
        for patient in range(patients):
            for slice_ in range(slices):
                name = f"{patient:06d}_01_02/{slice_:03d}"
                folder = root / f"{split}_640geo" / name
                folder.mkdir(parents=True)
                source = np.random.default_rng([len(split), patient, slice_])
                image = source.uniform(0, 0.5, (side, side))
                write_h5(folder / "gt.h5", image=image)
                for metal in range(metals):
                    with_metal = image + 0.02 * source.normal(size=(side, side))
                    with_metal[18:22, 10 + 4 * metal : 13 + 4 * metal] = 2.5
                    smooth = image + 0.01 * source.normal(size=(side, side))
                    write_h5(folder / f"{metal}.h5", ma_CT=with_metal, LI_CT=smooth)
                lines.append(f"{split}_640geo/{name}/gt.h5\n")
        masks = np.zeros((512, 512, metals), dtype=np.uint8)
        for metal in range(metals):
            masks[230:280, 140 + 50 * metal : 165 + 50 * metal, metal] = 1
        np.save(root / f"{split}mask.npy", masks)
        (root / f"{split}_640geo_dir.txt").write_text("".join(lines))
    return root


def write_spineweb(root: Path, *, patients: int = 3, slices: int = 2, side: int = 40) -> Path:
    """HU."""
    for split in ("train", "test"):
        folders = [root / split / name for name in ("synthesized_metal_transfer", "no_metal")]
        for number, folder in enumerate(folders):
            folder.mkdir(parents=True)
            for patient in range(patients):
                for slice_ in range(slices):
                    source = np.random.default_rng([len(split), patient, slice_])
                    image = source.uniform(-200, 300, (side, side))
                    if number == 0:
                        image[10:14, 10:14] = 3000
                    np.save(folder / f"{patient}_{slice_}.npy", image)
    return root
