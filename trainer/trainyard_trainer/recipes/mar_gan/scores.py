"""What an evaluation leaves: scores of each image, their means, tables and pictures.

Names: `psnr`, `ssim`, `mae`, `rmse` over the image; `psnr_metal`, `psnr_band`, `psnr_rest` and
`mae_metal` by region; `input_` the artefact image and `li_` the interpolated one in the place of
the generator's.
"""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainyard_trainer.pictures import Grid
from trainyard_trainer.recipe import Gathered
from trainyard_trainer.recipes.mar_gan import metrics
from trainyard_trainer.recipes.mar_gan.data import EvaluationBatch

SHOWN = (-1.0, 0.2)
"""Values that a picture shows from black to white: bone is near 0, metal is white."""
LARGEST_ERROR = 0.3
"""Shown as white."""
ROWS = ("input", "interpolated", "output", "target", "error")
METHODS = {"input": "input_", "interpolated": "li_", "output": ""}


def score(batch: EvaluationBatch, fake: Tensor, band: Tensor) -> dict[str, Tensor]:
    """(B,) each; NaN where a file is bad, a region empty, or there is nothing interpolated."""
    found = {}
    images = {"input": batch.artefact, "interpolated": batch.interpolated, "output": fake}
    for method, prefix in METHODS.items():
        for name, values in _scores(images[method], batch.target, batch.metal, band).items():
            found[prefix + name] = torch.where(batch.is_good > 0, values, torch.nan)
    return found | {"is_good": batch.is_good}


def _scores(image: Tensor, target: Tensor, metal: Tensor, band: Tensor) -> dict[str, Tensor]:
    squared = metrics.mse(image, target)
    masks = metrics.regions(metal, band)
    by_region = {
        f"psnr_{name}": metrics.psnr(metrics.mse(image, target, mask))
        for name, mask in masks.items()
    }
    return {
        "psnr": metrics.psnr(squared),
        "ssim": metrics.ssim(image, target),
        "mae": metrics.mae(image, target),
        "rmse": squared.sqrt(),
        "mae_metal": metrics.mae(image, target, masks["metal"]),
    } | by_region


def average(gathered: Gathered) -> dict[str, float]:
    """Means over the images that have a score, gains over both inputs, and how many are bad."""
    names = [name for name in gathered if name not in ("is_good", "picture")]
    means = {name: metrics.mean_of(gathered[name]) for name in names}
    found = {name: value for name, value in means.items() if not math.isnan(value)}
    for method in ("input", "li"):
        if "psnr" in found and f"{method}_psnr" in found:
            found[f"gain_over_{method}"] = found["psnr"] - found[f"{method}_psnr"]
    bad = float((gathered["is_good"] == 0).sum())
    return found | ({"bad_images": bad} if bad else {})


def table(gathered: Gathered, names: Sequence[str]) -> str:
    """CSV: a row for each image."""
    columns = [name for name in gathered if name not in ("is_good", "picture")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", *columns])
    rows = torch.stack([gathered[name] for name in columns], dim=1).tolist()
    for name, row in zip(names, rows, strict=True):
        writer.writerow([name, *(f"{value:.6g}" for value in row)])
    return out.getvalue()


def summary(gathered: Gathered) -> str:
    """A line for each method, a column for each score."""
    columns = [name for name in gathered if name not in ("is_good", "picture")]
    plain = [name for name in columns if not name.startswith(("input_", "li_"))]
    lines = [f"{'':12}" + "".join(f"{name:>12}" for name in plain)]
    for method, prefix in METHODS.items():
        values = [metrics.mean_of(gathered[prefix + name]) for name in plain]
        lines.append(f"{method:12}" + "".join(f"{value:12.4f}" for value in values))
    lines.append(f"images: {len(gathered['is_good'])}")
    lines.append(f"bad images left out: {int((gathered['is_good'] == 0).sum())}")
    return "\n".join(lines) + "\n"


def pictures_of(batch: EvaluationBatch, fake: Tensor, most: int) -> list[Any]:
    """For each image numbered below `most`, (5, H, W) uint8 in the order of ROWS; else None."""
    found: list[Any] = []
    for row, number in enumerate(batch.number.tolist()):
        if number >= most or not batch.is_good[row]:
            found.append(None)
            continue
        one = (batch.artefact[row, 0], batch.interpolated[row, 0], fake[row, 0])
        target = batch.target[row, 0]
        shown = [_grey(image) for image in (*one, target)]
        error = (fake[row, 0] - target).abs() / LARGEST_ERROR
        stacked = torch.stack([*shown, error]).nan_to_num().clamp(0, 1)
        found.append((stacked * 255).round().to(torch.uint8).cpu().numpy())
    return found


def draw_grid(pictures: Sequence[Any]) -> Grid | None:
    """A column an image, a row of each of ROWS; None where there is none."""
    kept: list[np.ndarray[Any, Any]] = [one for one in pictures if one is not None]
    if not kept:
        return None
    return Grid(rows={name: [one[row] for one in kept] for row, name in enumerate(ROWS)})


def _grey(image: Tensor) -> Tensor:
    low, high = SHOWN
    return (image - low) / (high - low)
