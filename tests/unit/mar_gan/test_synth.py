import json
from pathlib import Path

import numpy as np
import pytest

from trainyard_trainer.recipes.mar_gan.layouts import list_split
from trainyard_trainer.recipes.mar_gan.phantom import draw_metal, draw_slice
from trainyard_trainer.recipes.mar_gan.physics import (
    Gantry,
    Scanner,
    Slice,
    attenuation,
    correct_for_water,
    interpolate_trace,
)
from trainyard_trainer.recipes.mar_gan.synth import main, shrink_mask, to_hounsfield

SMALL = ("--side", "32", "--patients", "2", "1", "--slices", "1", "--masks", "2", "1")


def disc(side: int, radius: float, x: float = 0, y: float = 0) -> np.ndarray:
    grid = (np.arange(side) + 0.5) * 2 / side - 1
    return ((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2 < radius**2).astype(float)


def test_water_is_its_attenuation_and_zero_hounsfield_units() -> None:
    water = Slice(disc(64, 0.7), np.zeros((64, 64)))
    image = Gantry(water, Scanner()).target
    inside = image[disc(64, 0.5) > 0]
    assert inside.mean() == pytest.approx(attenuation("soft"), rel=0.01)
    assert to_hounsfield(inside).mean() == pytest.approx(0, abs=10)
    assert attenuation("soft") == pytest.approx(0.193, abs=0.002)  # NIST, 70 keV.


def test_beam_hardening_of_water_alone_is_corrected() -> None:
    from trainyard_trainer.recipes.mar_gan.physics import MASS_ATTENUATION, SPECTRUM

    lengths = np.array([0.0, 5, 20, 30])
    passed = np.exp(-np.outer(lengths, MASS_ATTENUATION["soft"])) @ SPECTRUM
    assert correct_for_water(-np.log(passed)) == pytest.approx(
        lengths * attenuation("soft"), abs=1e-4
    )


def test_two_metals_cast_a_dark_band_between_them() -> None:
    water = Slice(disc(64, 0.8), np.zeros((64, 64)))
    metal = disc(64, 0.12, -0.4) + disc(64, 0.12, 0.4)
    scan = Gantry(water, Scanner(photons=1e9)).scan(metal, "iron", np.random.default_rng(0))
    between = scan.artefact[30:34, 28:36].mean()
    aside = scan.artefact[50:54, 28:36].mean()
    assert between < 0.5 * aside
    assert scan.artefact[metal > 0].mean() > 1


def test_fewer_photons_make_noisier_streaks() -> None:
    water = Slice(disc(48, 0.8), np.zeros((48, 48)))
    metal = disc(48, 0.06, 0.3)
    errors = []
    for photons in (1e5, 1e8):
        gantry = Gantry(water, Scanner(photons=photons))
        scans = [gantry.scan(metal, "titanium", np.random.default_rng(seed)) for seed in (0, 1)]
        errors.append(np.abs(scans[0].artefact - scans[1].artefact).mean())
    assert errors[0] > 3 * errors[1]


def test_interpolation_is_better_than_nothing_and_worse_than_no_metal() -> None:
    rng = np.random.default_rng(3)
    gantry = Gantry(draw_slice(rng, rng, 48), Scanner())
    scan = gantry.scan(shrink_mask(draw_metal(rng, 512), 48), "titanium", rng)
    errors = [np.abs(one - scan.target).mean() for one in (scan.artefact, scan.interpolated)]
    assert errors[0] > 2 * errors[1] > 0


def test_a_trace_is_filled_linearly_along_the_detector() -> None:
    projections = np.array([[0.0, 5], [9, 5], [9, 5], [3, 5]])
    trace = np.array([[0, 0], [1, 0], [1, 0], [0, 0]], dtype=bool)
    assert interpolate_trace(projections, trace)[:, 0].tolist() == [0, 1, 2, 3]


def test_slices_of_a_patient_are_alike_and_not_the_same() -> None:
    def draw(slice_: int) -> Slice:
        return draw_slice(np.random.default_rng(1), np.random.default_rng([1, slice_]), 48)

    first, second = draw(0), draw(1)
    assert np.array_equal(draw(0).soft, first.soft)
    differs = (first.soft != second.soft).mean()
    assert 0 < differs < 0.5


def test_it_writes_syndeeplesions_layout_with_its_mark(tmp_path: Path, capsys) -> None:
    main([str(tmp_path), "--seed", "5", *SMALL])
    assert capsys.readouterr().out == f"Wrote 3 slices of synthetic patients below {tmp_path}.\n"
    scenes = list_split(tmp_path, "train", skips=False).scenes
    assert [len(scene.artefacts) for scene in scenes] == [2, 2]
    scene = scenes[0]
    metal = scene.read_metal(1, (32, 32))
    assert metal is not None
    assert scene.read_artefact(1)[metal > 0].mean() > 0.6
    assert scene.read_interpolated(1) is not None
    mark = json.loads((tmp_path / "SYNTHETIC.json").read_text())
    assert mark["seed"] == 5
    assert mark["generator"] == "trainyard_trainer.recipes.mar_gan.synth"


def test_the_same_seed_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        main([str(tmp_path / name), "--seed", seed, *SMALL])
        scene = list_split(tmp_path / name, "test", skips=False).scenes[0]
        pixels.append(scene.read_artefact(0))
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])


def test_it_writes_spinewebs_layout_in_hounsfield_units(tmp_path: Path) -> None:
    main([str(tmp_path), "--layout", "spineweb", *SMALL])
    scenes = list_split(tmp_path / "train", "train", skips=False).scenes
    assert [scene.target.name for scene in scenes] == ["001_001.npy", "002_001.npy"]
    raw = np.load(scenes[0].target)
    assert -1100 < raw.min() < -900
    assert np.load(scenes[0].artefacts[0]).max() > 2000
