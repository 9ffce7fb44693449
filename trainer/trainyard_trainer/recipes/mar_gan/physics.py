"""CT of a slice with metal: polychromatic forward projection, noise, filtered back-projection.

For each ray, photons of energy e pass with probability exp(-sum_m mu_m(e) l_m), l_m the length in
material m; the detector adds energies up, so that the logarithm is not linear in the lengths: beam
hardening. Few photons pass metal: Poisson noise. Both, on the metal's trace alone, make streaks
when the image is reconstructed as if attenuation were monochromatic. Off the trace the projection
is the clean one (compare Zhang & Yu, IEEE TMI 2018, arXiv 1709.01581, section II.B).

Lengths are in cm, attenuation in 1/cm.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]

ENERGIES_KEV = np.array([40.0, 60.0, 80.0, 100.0])
SPECTRUM = np.array([0.2, 0.35, 0.28, 0.17])
"""Share of the photons of a filtered 120 kVp beam near each energy."""
REFERENCE_KEV = 70.0
"""Images show the attenuation at this energy."""
DENSITIES = {"soft": 1.0, "bone": 1.92, "titanium": 4.54, "iron": 7.874}
"""g/cm3; soft tissue is water."""
MASS_ATTENUATION = {
    "soft": np.array([0.2683, 0.2059, 0.1837, 0.1707]),
    "bone": np.array([0.6655, 0.3148, 0.2229, 0.1855]),
    "titanium": np.array([2.214, 0.7661, 0.4052, 0.2721]),
    "iron": np.array([3.629, 1.205, 0.5952, 0.3717]),
}
"""cm2/g at ENERGIES_KEV (NIST, physics.nist.gov/PhysRefData/XrayMassCoef)."""
WATER_LENGTHS_CM = np.linspace(0, 400, 4001)


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """How the slice is measured."""

    field_cm: float = 36.0
    """Side of the square image."""
    angles: int = 180
    """Projections, evenly over half a turn."""
    photons: float = 2e5
    """That reach a detector element through air."""


class Slice(NamedTuple):
    """What a slice is made of, (S, S) each: densities relative to the pure material's."""

    soft: Grid
    bone: Grid


class Scan(NamedTuple):
    """Reconstructions, (S, S) in 1/cm."""

    target: Grid
    """Without metal."""
    artefact: Grid
    interpolated: Grid
    """The metal's trace replaced by linear interpolation along the detector (Kalender 1987)."""


def attenuation(material: str) -> float:
    """Of the pure material at the reference energy, by interpolation of the logarithms."""
    logs = np.interp(REFERENCE_KEV, ENERGIES_KEV, np.log(MASS_ATTENUATION[material]))
    return float(np.exp(logs) * DENSITIES[material])


class Gantry:
    """Measures one slice with several metals; its clean projection is computed once."""

    def __init__(self, slice_: Slice, scanner: Scanner) -> None:
        self.scanner, self.side = scanner, slice_.soft.shape[0]
        self._soft, self._bone = (self._lengths(part) for part in slice_)
        self._clean = attenuation("soft") * self._soft + attenuation("bone") * self._bone
        self.target = self._reconstruct(self._clean)

    def scan(self, metal: Grid, material: str, rng: np.random.Generator) -> Scan:
        """metal: 1 inside, else 0; it takes the place of nothing else."""
        lengths = self._lengths(metal)
        trace = lengths > 0
        measured = np.where(trace, self._measure(lengths, material, rng), self._clean)
        return Scan(
            target=self.target,
            artefact=self._reconstruct(measured),
            interpolated=self._reconstruct(interpolate_trace(measured, trace)),
        )

    def _measure(self, metal: Grid, material: str, rng: np.random.Generator) -> Grid:
        lengths = {"soft": self._soft, "bone": self._bone, material: metal}
        passed = np.zeros_like(metal)
        for index, share in enumerate(SPECTRUM):
            depth = sum(
                MASS_ATTENUATION[name][index] * DENSITIES[name] * length
                for name, length in lengths.items()
            )
            passed += share * np.exp(-depth)
        counted = np.maximum(rng.poisson(self.scanner.photons * passed), 1)
        return correct_for_water(-np.log(counted / self.scanner.photons))

    def _lengths(self, part: Grid) -> Grid:
        """(S, angles), in cm."""
        from skimage.transform import radon

        pixel_cm = self.scanner.field_cm / self.side
        with warnings.catch_warnings():
            # What lies outside of the circle is air.
            warnings.filterwarnings("ignore", message="Radon transform: image must be zero")
            found: Grid = radon(part, theta=self._theta, circle=True)
        return found * pixel_cm

    def _reconstruct(self, projections: Grid) -> Grid:
        from skimage.transform import iradon

        pixel_cm = self.scanner.field_cm / self.side
        image: Grid = iradon(
            projections, theta=self._theta, filter_name="ramp", circle=True, output_size=self.side
        )
        return image / pixel_cm

    @property
    def _theta(self) -> Grid:
        """Degrees."""
        return np.arange(self.scanner.angles) * 180.0 / self.scanner.angles


def correct_for_water(measured: Grid) -> Grid:
    """The monochromatic value of as much water as gives the measured one."""
    depths = np.outer(WATER_LENGTHS_CM, MASS_ATTENUATION["soft"] * DENSITIES["soft"])
    table = -np.log(np.exp(-depths) @ SPECTRUM)
    return np.interp(measured, table, WATER_LENGTHS_CM * attenuation("soft"))


def interpolate_trace(projections: Grid, trace: NDArray[np.bool_]) -> Grid:
    """Each angle's masked detector elements, by linear interpolation of the others. (S, angles)."""
    filled = projections.copy()
    elements = np.arange(len(projections))
    for angle in np.flatnonzero(trace.any(axis=0)):
        masked = trace[:, angle]
        if masked.all():
            continue
        filled[masked, angle] = np.interp(
            elements[masked], elements[~masked], projections[~masked, angle]
        )
    return filled
