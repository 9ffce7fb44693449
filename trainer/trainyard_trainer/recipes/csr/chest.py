"""A drawn chest X-ray, and findings drawn into it. Grey values are in 0..1, black for air."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PixelBox = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
_LUNGS = ((0.32, 0.47), (0.68, 0.47))
"""Centres (x, y), in shares of the side."""
_LUNG_RADII = (0.13, 0.27)


class Chest:
    """An X-ray under way: `pixels` (S, S)."""

    def __init__(self, size: int, rng: np.random.Generator, *, is_large_hearted: bool) -> None:
        self.size = size
        steps = (np.arange(size) + 0.5) / size
        self.y, self.x = np.meshgrid(steps, steps, indexing="ij")
        jitter = rng.normal(0, 0.01, size=4)
        self.pixels: Floats = np.full((size, size), 0.03)
        self.paint(self.ellipse(0.5 + jitter[0], 0.55, 0.42, 0.52), 0.55)
        self.lungs = [(x + jitter[1], y + jitter[2]) for x, y in _LUNGS]
        for centre in self.lungs:
            self.paint(self.ellipse(*centre, *_LUNG_RADII), 0.22)
        self.heart = (0.54 + jitter[3], 0.62, 0.19 if is_large_hearted else 0.11, 0.13)
        self.paint(self.ellipse(*self.heart), 0.62)
        self.paint(np.exp(-(((self.x - 0.5) / 0.03) ** 2)), 0.66)
        ribs = 0.5 + 0.5 * np.sin(2 * np.pi * (self.y * 9 + 1.5 * (self.x - 0.5) ** 2))
        self.pixels += 0.05 * ribs * (self.pixels > 0.1)
        self.pixels += rng.normal(0, 0.02, size=self.pixels.shape)

    def ellipse(self, x: float, y: float, across: float, down: float) -> Floats:
        """1 inside, 0 outside, soft between; in shares of the side."""
        distance = np.hypot((self.x - x) / across, (self.y - y) / down)
        inside: Floats = 1 / (1 + np.exp(np.clip((distance - 1) * 25, -50, 50)))
        return inside

    def paint(self, mask: Floats, value: float) -> None:
        """Blend a value in where the mask says so."""
        self.pixels = self.pixels * (1 - mask) + value * mask

    def box(self, x: float, y: float, across: float, down: float) -> PixelBox:
        """Around an ellipse, cut at the image's border."""
        corners = (x - across, y - down, x + across, y + down)
        left, top, right, bottom = (float(np.clip(c, 0, 1) * self.size) for c in corners)
        return left, top, right, bottom

    def spot(self, rng: np.random.Generator, depth: float = 0.0) -> tuple[float, float]:
        """A place in one of the lungs. depth: 0 anywhere, 1 in its lower part."""
        x, y = self.lungs[rng.integers(2)]
        return x + rng.uniform(-0.05, 0.05), y + rng.uniform(-0.15 * (1 - 2 * depth), 0.15)


def _draw_nodule(chest: Chest, rng: np.random.Generator) -> PixelBox:
    x, y, radius = *chest.spot(rng), rng.uniform(0.035, 0.055)
    chest.paint(chest.ellipse(x, y, radius, radius), 0.7)
    return chest.box(x, y, radius, radius)


def _draw_cavity(chest: Chest, rng: np.random.Generator) -> PixelBox:
    x, y, radius = *chest.spot(rng), rng.uniform(0.06, 0.075)
    outer = chest.ellipse(x, y, radius, radius)
    chest.paint(outer - chest.ellipse(x, y, 0.65 * radius, 0.65 * radius), 0.8)
    return chest.box(x, y, radius, radius)


def _draw_consolidation(chest: Chest, rng: np.random.Generator) -> PixelBox:
    x, y = chest.spot(rng)
    across, down = rng.uniform(0.08, 0.11, size=2)
    cloud = np.exp(-(((chest.x - x) / across) ** 2) - ((chest.y - y) / down) ** 2)
    chest.paint(0.8 * cloud, 0.58)
    return chest.box(x, y, across, down)


def _draw_effusion(chest: Chest, rng: np.random.Generator) -> PixelBox:
    x, y = chest.lungs[rng.integers(2)]
    across, down = _LUNG_RADII
    level = y + down * rng.uniform(0.3, 0.5)
    rising = 1 / (1 + np.exp(np.clip(-(chest.y - level) * 60, -50, 50)))
    chest.paint(chest.ellipse(x, y, across, down) * rising, 0.6)
    middle = (level + y + down) / 2
    return chest.box(x, middle, across, y + down - middle)


def _draw_pneumothorax(chest: Chest, rng: np.random.Generator) -> PixelBox:
    x, y = chest.lungs[rng.integers(2)]
    across, down = 0.09, 0.08
    top = y - _LUNG_RADII[1] + down
    chest.paint(chest.ellipse(x, top, across, down), 0.04)
    return chest.box(x, top, across, down)


def _draw_fibrosis(chest: Chest, rng: np.random.Generator) -> PixelBox:
    x, y = chest.spot(rng, depth=1.0)
    radius = rng.uniform(0.08, 0.1)
    net = np.abs(np.sin(50 * (chest.x + chest.y))) + np.abs(np.sin(50 * (chest.x - chest.y)))
    chest.paint(chest.ellipse(x, y, radius, radius) * (net < 0.6), 0.75)
    return chest.box(x, y, radius, radius)


def _draw_calcification(chest: Chest, rng: np.random.Generator) -> PixelBox:
    x, y, radius = *chest.spot(rng), 0.05
    for _ in range(6):
        across, down = rng.uniform(-0.8 * radius, 0.8 * radius, size=2)
        chest.paint(chest.ellipse(x + across, y + down, 0.012, 0.012), 0.97)
    return chest.box(x, y, radius, radius)


def _mark_heart(chest: Chest, rng: np.random.Generator) -> PixelBox:
    """It was drawn large from the start."""
    return chest.box(*chest.heart)


DRAWERS: dict[str, Callable[[Chest, np.random.Generator], PixelBox]] = {
    "Cardiomegaly": _mark_heart,
    "Consolidation": _draw_consolidation,
    "Pleural effusion": _draw_effusion,
    "Pneumothorax": _draw_pneumothorax,
    "Pulmonary fibrosis": _draw_fibrosis,
    "Lung cavity": _draw_cavity,
    "Nodule/Mass": _draw_nodule,
    "Calcification": _draw_calcification,
}
"""By finding: draws it and returns where; in the order in which they are drawn."""
