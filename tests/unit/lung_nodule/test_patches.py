"""Patches, their findings and their augmentation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nodule_scans import GRID, write_scan

from trainyard_trainer.recipes.lung_nodule.annotations import Nodule
from trainyard_trainer.recipes.lung_nodule.augmentation import Cutter, Motion
from trainyard_trainer.recipes.lung_nodule.augmentation_config import AugmentationConfig
from trainyard_trainer.recipes.lung_nodule.data import Cut, Patch, Patches, collate
from trainyard_trainer.recipes.lung_nodule.scans import Scan
from trainyard_trainer.recipes.lung_nodule.targets import IGNORED, PADDING, TARGET
from trainyard_trainer.recipes.lung_nodule.volumes import VolumeCache

SIZE = (8, 12, 12)
BALL = (6, 8, 10)
NONE = {
    name: {"probability": 0}
    for name in (
        "random_flip",
        "random_rotation",
        "random_scale",
        "random_noise",
        "elastic_deformation",
    )
}


def nodule_at(voxel: Any, diameter: float = 6.0, malignant: bool | None = None) -> Nodule:
    z, y, x = GRID.to_world(np.asarray(voxel, dtype=np.float64)).tolist()
    return Nodule(centre=(z, y, x), diameter=diameter, is_malignant=malignant)


def scan_with(file: Path, *nodules: Nodule, irrelevant: tuple[Nodule, ...] = ()) -> Scan:
    return Scan(uid="a", file=file, grid=GRID, nodules=nodules, irrelevant=irrelevant)


def cutter(changes: dict[str, Any]) -> Cutter:
    config = AugmentationConfig.model_validate(NONE | changes)
    return Cutter(VolumeCache(10**7, None), SIZE, None, ((-1000.0, 0.0),), config)


def bright_centre(cut: Cut) -> np.ndarray[Any, Any]:
    """Mean voxel of what is denser than lung."""
    return np.argwhere(cut.image[0].numpy() > 0.6).mean(0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="none"),
        pytest.param({"random_flip": {"probability": 1}}, id="flip"),
        pytest.param({"random_rotation": {"probability": 1, "max_angle": 15}}, id="rotation"),
        pytest.param({"random_scale": {"probability": 1}}, id="scale"),
        pytest.param({"elastic_deformation": {"probability": 1, "alpha": 40}}, id="elastic"),
        pytest.param({"random_noise": {"probability": 1}}, id="noise"),
        pytest.param({name: {"probability": 1} for name in NONE}, id="all"),
    ],
)
def test_the_finding_moves_with_its_voxels(tmp_path: Path, changes: dict[str, Any]) -> None:
    scan = scan_with(write_scan(tmp_path, "a", [BALL]), nodule_at(BALL))
    cut_out = cutter(changes)
    for seed in range(6):
        cut = cut_out(Patch(scan, scan.nodules[0]), np.random.default_rng(seed))
        assert cut.image.shape == (1, *SIZE)
        row = cut.findings[0].tolist()
        assert row[4] == TARGET
        if (cut.image[0] > 0.6).sum() > 80:  # All of the ball is in the patch.
            away = (bright_centre(cut) - row[:3]) * GRID.spacing
            assert np.linalg.norm(away) < 1.0


def test_scale_changes_the_diameter(tmp_path: Path) -> None:
    scan = scan_with(write_scan(tmp_path, "a", [BALL]), nodule_at(BALL))
    larger = {"random_scale": {"probability": 1, "scale_range": [1.5, 1.5]}}
    cut = cutter(larger)(Patch(scan, scan.nodules[0]), np.random.default_rng(0))
    assert cut.findings[0, 3].item() == pytest.approx(9.0)


def test_the_master_switch_turns_everything_off(tmp_path: Path) -> None:
    scan = scan_with(write_scan(tmp_path, "a", [BALL]), nodule_at(BALL))
    every = {name: {"probability": 1} for name in NONE}
    off = cutter({**every, "enabled": False})(
        Patch(scan, scan.nodules[0]), np.random.default_rng(1)
    )
    plain = cutter({})(Patch(scan, scan.nodules[0]), np.random.default_rng(1))
    assert torch.equal(off.image, plain.image)


def test_a_sample_is_cut_the_same_whenever_it_is_repeated(tmp_path: Path) -> None:
    scan = scan_with(write_scan(tmp_path, "a", [BALL]), nodule_at(BALL))
    cut_out = cutter({name: {"probability": 0.5} for name in NONE})
    once, again = (cut_out(Patch(scan, None), np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(once.image, again.image)
    assert torch.equal(once.findings.nan_to_num(), again.findings.nan_to_num())


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 9999),
    voxel=st.tuples(st.integers(1, 6), st.integers(1, 10), st.integers(1, 10)),
)
def test_a_motion_takes_points_where_it_takes_voxels(
    seed: int, voxel: tuple[int, int, int]
) -> None:
    changes = {name: {"probability": 0.7} for name in NONE}
    motion = Motion(
        AugmentationConfig.model_validate(changes),
        SIZE,
        (2.5, 0.7, 0.8),
        np.random.default_rng(seed),
    )
    centre = np.array([20.0, 30.0, 40.0])
    read_from = motion.source(centre)[(slice(None), *voxel)]
    assert motion.target(read_from, centre) == pytest.approx(voxel, abs=0.05)


def test_an_epoch_has_every_nodule_and_as_many_patches_from_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "a.mhd"
    scans = [scan_with(file, nodule_at(BALL), nodule_at((2, 2, 2))), scan_with(file)]
    patches = Patches(scans, least_diameter=0, anywhere_per_nodule=1)
    kinds = [patch.nodule is not None for patch in map(patches.__getitem__, range(len(patches)))]
    assert kinds == [True, True, False, False, False]


def test_nodules_below_the_curriculums_diameter_are_neither_target_nor_background() -> None:
    scan = scan_with(Path("a.mhd"), nodule_at(BALL, 4.0), nodule_at((2, 2, 2), 12.0))
    patches = Patches([scan], least_diameter=10, anywhere_per_nodule=0)
    (patch,) = [patches[index] for index in range(len(patches))]
    assert patch.nodule is not None and patch.nodule.diameter == 12.0
    assert [one.diameter for one in patch.scan.irrelevant] == [4.0]


def test_other_findings_of_a_patch_come_after_its_own(tmp_path: Path) -> None:
    near, far = (7, 8, 8), (6, 8, 60)
    scan = scan_with(
        write_scan(tmp_path, "a", [BALL]),
        nodule_at(BALL),
        nodule_at(near),
        nodule_at(far),
        irrelevant=(nodule_at((5, 7, 9)),),
    )
    cut = cutter({})(Patch(scan, scan.nodules[0]), np.random.default_rng(0))
    assert cut.findings[:, 4].tolist() == [TARGET, TARGET, IGNORED]
    anywhere = cutter({})(Patch(scan, None), np.random.default_rng(0))
    assert anywhere.findings[0, 4] == PADDING


def test_a_batch_is_padded_to_its_most_findings() -> None:
    cuts = [Cut(torch.zeros(1, 2, 2, 2), torch.ones(count, 6), torch.ones(3)) for count in (1, 3)]
    batch = collate(cuts)
    assert batch.findings[:, :, 4].tolist() == [[1, PADDING, PADDING], [1, 1, 1]]  # type: ignore[union-attr]
