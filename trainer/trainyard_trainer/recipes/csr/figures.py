"""Pictures of what the network sees: ROC curves, concept maps, and patches like prototypes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trainyard_trainer.evaluation import evaluation_mode
from trainyard_trainer.pictures import Curves, Grid
from trainyard_trainer.recipes.csr import metrics
from trainyard_trainer.recipes.csr.data import XraySamples
from trainyard_trainer.recipes.csr.model import CSR

Normalize = Callable[[Tensor], Tensor]
_MOST_CURVES = 8
_SHOWN_IMAGES = 6
_SEARCHED_IMAGES = 64
"""Training images in which patches are looked for."""
_PATCH = 48


def draw_rocs(title: str, names: Sequence[str], scores: Tensor, labels: Tensor) -> Curves | None:
    """The labels with most positives; None where no label has both kinds of images."""
    order = labels.sum(dim=0).argsort(descending=True, stable=True).tolist()
    lines: dict[str, metrics.Roc] = {}
    for column in order:
        curve = metrics.roc(scores[:, column], labels[:, column])
        if curve is not None and len(lines) < _MOST_CURVES:
            lines[names[column]] = curve
    if not lines:
        return None
    x, y = "false positive rate", "true positive rate"
    return Curves(lines=lines, x_label=x, y_label=y, title=title, diagonal=True)


def draw_maps(
    network: CSR, samples: XraySamples, names: Sequence[str], normalize: Normalize
) -> Grid:
    """X-rays, the map of each one's strongest concept in red, and that concept's boxes."""
    device = next(network.parameters()).device
    rows: dict[str, list[NDArray[np.uint8]]] = {"X-ray": [], "map": [], "boxes": []}
    captions = []
    for index in _shown(samples):
        image, _, _, boxes = samples[index]
        with torch.no_grad(), evaluation_mode({"csr": network}):
            features = network.backbone(normalize(image[None].to(device)))
            maps = network.concept_maps(features)[0]  # (K, H, W)
        strongest = int(maps.mean(dim=(1, 2)).argmax())
        rows["X-ray"].append(overlay_map(image, torch.zeros(1, 1)))
        rows["map"].append(overlay_map(image, _unit(maps[strongest]).cpu()))
        rows["boxes"].append(overlay_map(image, boxes[strongest].float()))
        captions.append(names[strongest])
    return Grid(rows=rows, captions=captions)


def draw_prototypes(
    network: CSR, samples: XraySamples, names: Sequence[str], normalize: Normalize
) -> Grid:
    """For each prototype the patch of a training image that is most like it."""
    device = next(network.parameters()).device
    shape = network.prototypes.shape[:2]
    best = torch.full(shape, -2.0)
    patches = np.zeros((*shape, _PATCH, _PATCH), dtype=np.uint8)
    for index in range(min(_SEARCHED_IMAGES, len(samples))):
        image = samples[index][0]
        with torch.no_grad(), evaluation_mode({"csr": network}):
            features = network.backbone(normalize(image[None].to(device)))
            maps = network.similarity_maps(features)[0].cpu()  # (K, M, H, W)
        values, places = maps.flatten(2).max(dim=-1)  # (K, M)
        for concept, number in (values > best).nonzero().tolist():
            row, column = divmod(int(places[concept, number]), maps.shape[-1])
            patches[concept, number] = _patch(image[0], row, column, maps.shape[-2:])
        best = torch.maximum(best, values)
    return Grid(rows={name: list(patches[at]) for at, name in enumerate(names)})


def _shown(samples: XraySamples) -> list[int]:
    """Images with boxes first."""
    with_boxes = sorted(samples.split.boxes)
    others = [index for index in range(len(samples)) if index not in samples.split.boxes]
    return [*with_boxes, *others][:_SHOWN_IMAGES]


def _unit(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-6)


def overlay_map(image: Tensor, heat: Tensor) -> NDArray[np.uint8]:
    """image: (1, S, S) uint8. heat: (H, W) in 0..1, painted red. Returns (S, S, 3)."""
    size = image.shape[-1]
    spread = F.interpolate(heat[None, None], size=(size, size), mode="bilinear")[0, 0]
    grey = image[0].float() / 255
    red = grey + (1 - grey) * 0.7 * spread
    rest = grey * (1 - 0.7 * spread)
    coloured = torch.stack([red, rest, rest], dim=-1)
    pixels: NDArray[np.uint8] = (coloured * 255).round().to(torch.uint8).numpy()
    return pixels


def _patch(image: Tensor, row: int, column: int, grid: Sequence[int]) -> NDArray[np.uint8]:
    """The quarter of the sides around a cell of a map, at one size."""
    size = image.shape[-1]
    half = max(size // 8, 4)
    centre = [
        round((at + 0.5) / count * size) for at, count in zip((row, column), grid, strict=True)
    ]
    top, left = (min(max(at - half, 0), size - 2 * half) for at in centre)
    cut = image[top : top + 2 * half, left : left + 2 * half].float()
    scaled = F.interpolate(cut[None, None], size=(_PATCH, _PATCH), mode="bilinear")[0, 0]
    return scaled.round().to(torch.uint8).numpy()
