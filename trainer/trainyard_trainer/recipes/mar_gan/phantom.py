"""Drawn patients: bodies of ellipses, and metal to put into them.

Coordinates run from -1 to 1 over the image, x to the right and y down.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from trainyard_trainer.recipes.mar_gan.physics import Grid, Slice

LUNG, FAT, MUSCLE, GAS = 0.26, 0.93, 1.05, 0.02
"""Densities relative to water."""
DETAILS = 30
"""Small things in a slice: vessels, fat, gas."""
REGIONS = ("chest", "abdomen", "pelvis")


class Ellipse(NamedTuple):
    """Half axes along its own directions, turned by an angle in radians."""

    x: float
    y: float
    across: float
    along: float
    turn: float = 0.0

    def mask(self, side: int) -> Grid:
        """(side, side): 1 inside, else 0."""
        grid = (np.arange(side) + 0.5) * 2 / side - 1
        x, y = grid[None] - self.x, grid[:, None] - self.y
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        u, v = (cos * x + sin * y) / self.across, (cos * y - sin * x) / self.along
        return np.asarray(u * u + v * v <= 1, dtype=np.float64)


Parts = Iterable[tuple[Ellipse, float]]
"""Each with its density; what is inside of another comes after it."""


def draw_slice(patient: np.random.Generator, slice_: np.random.Generator, side: int) -> Slice:
    """A chest, an abdomen or a pelvis.

    patient: gives the build; slice_: what differs from slice to slice.
    """
    wide, high = patient.uniform(0.80, 0.94), patient.uniform(0.56, 0.72)
    region = REGIONS[int(patient.integers(len(REGIONS)))]
    muscle = Ellipse(0, 0, wide - 0.07, high - 0.07).mask(side)
    soft = np.where(muscle > 0, MUSCLE, FAT * Ellipse(0, 0, wide, high).mask(side))
    soft = _fill(soft, muscle, _organs(region, patient, slice_))
    soft = _fill(soft, muscle, _details(wide, high, slice_))
    bone = _fill(np.zeros((side, side)), muscle, _bones(region, wide, high, slice_))
    return Slice(soft=np.where(bone > 0, 0.3 * soft, soft), bone=bone)


def draw_metal(rng: np.random.Generator, side: int) -> Grid:
    """Three to five screws, rods or joints, mostly at hips or spine: 1 inside, else 0."""
    metal = np.zeros((side, side))
    for _ in range(int(rng.integers(3, 6))):
        x = rng.choice([-0.45, 0.0, 0.45]) + rng.normal(0, 0.12)
        y = rng.normal(0.1, 0.18)
        short = rng.uniform(0.06, 0.12)
        part = Ellipse(x, y, short, short * rng.uniform(1.0, 2.0), rng.uniform(0, math.pi))
        metal = np.maximum(metal, part.mask(side))
    return metal


def _fill(pixels: Grid, within: Grid, parts: Parts) -> Grid:
    for part, density in parts:
        pixels = np.where((part.mask(pixels.shape[0]) > 0) & (within > 0), density, pixels)
    return pixels


def _organs(region: str, patient: np.random.Generator, slice_: np.random.Generator) -> Parts:
    swell = slice_.uniform(0.85, 1.1)
    if region == "chest":
        across, along = patient.uniform(0.22, 0.3), patient.uniform(0.3, 0.4)
        for x in (-0.4, 0.4):
            yield Ellipse(x, -0.04, across * swell, along * swell), LUNG
        yield Ellipse(0.06, -0.12, 0.2 * swell, 0.24, 0.5), 1.06
        return
    for _ in range(6):
        x, y = patient.uniform(-0.5, 0.5), patient.uniform(-0.4, 0.2)
        size = patient.uniform(0.06, 0.2) * swell
        density = patient.choice([FAT, 1.02, 1.08, 1.12])
        shift = slice_.normal(0, 0.02, size=2)
        turn = patient.uniform(0, math.pi)
        yield Ellipse(x + shift[0], y + shift[1], size, size * 0.7, turn), density


def _details(wide: float, high: float, rng: np.random.Generator) -> Parts:
    densities = rng.choice([GAS, FAT, 1.0, 1.1], size=DETAILS, p=[0.25, 0.25, 0.25, 0.25])
    for density in densities:
        radius, turn = 0.8 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        size = rng.uniform(0.02, 0.08)
        x, y = radius * wide * math.cos(turn), radius * high * math.sin(turn)
        yield Ellipse(x, y, size, size * rng.uniform(0.4, 1), turn), float(density)


def _bones(region: str, wide: float, high: float, rng: np.random.Generator) -> Parts:
    """Densities relative to cortical bone."""
    if region == "pelvis":
        for x in (-0.45, 0.45):
            lean = 0.5 if x < 0 else -0.5
            yield Ellipse(x, 0.1, 0.16, 0.3, lean), 0.85
            yield Ellipse(x, 0.1, 0.11, 0.24, lean), 0.35
            yield Ellipse(x * 1.1, 0.12, 0.13, 0.13), 0.75
    if region == "chest":
        for turn in rng.uniform(0, 0.5) + np.arange(8) * math.pi / 4:
            x, y = (wide - 0.12) * math.cos(turn), (high - 0.12) * math.sin(turn)
            yield Ellipse(x, y, 0.035, 0.1, turn), 0.8
    y = high - 0.24
    yield Ellipse(0, y, 0.15, 0.13), 0.85
    yield Ellipse(0, y, 0.11, 0.09), 0.35
    yield Ellipse(0, y + 0.15, 0.04, 0.07), 0.8
