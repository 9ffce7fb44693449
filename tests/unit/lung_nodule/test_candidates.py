"""Peaks of a heatmap, the blob detector, and the scores of both."""

from typing import Any

import numpy as np
import pytest
import torch

from trainyard_trainer.recipes.lung_nodule import metrics
from trainyard_trainer.recipes.lung_nodule.baseline import find_blobs
from trainyard_trainer.recipes.lung_nodule.candidates import Peaks, find_candidates
from trainyard_trainer.recipes.lung_nodule.grid import Grid
from trainyard_trainer.recipes.lung_nodule.model import CENTRE, SIZE, TRIAGE
from trainyard_trainer.recipes.lung_nodule.targets import TARGET, heatmap

GRID = Grid(shape=(16, 24, 24), spacing=(2.0, 1.0, 1.0), origin=(-50.0, 30.0, 70.0))
PEAKS = Peaks(threshold=0.3, least_distance_mm=6.0, most=10)
PLACES = [(4.0, 6.0, 6.0), (11.0, 17.0, 16.0)]


def maps_of(places: list[tuple[float, float, float]], heads: bool = False) -> torch.Tensor:
    rows = torch.tensor([[[*place, 8.0, TARGET, 0.0] for place in places]])
    heat = heatmap(rows, torch.tensor([GRID.spacing]), torch.Size(GRID.shape), 3.0)
    logits = torch.logit(heat.clamp(1e-6, 1 - 1e-6) * 0.9)
    return torch.cat([logits, torch.zeros(7 if heads else 0, *GRID.shape)])


def test_candidates_lie_at_the_peaks_in_world_millimetres_the_likeliest_first() -> None:
    maps = maps_of(PLACES)
    maps[0] = torch.where(torch.arange(16)[:, None, None] > 8, maps[0] - 1, maps[0])
    found = find_candidates(maps, GRID, PEAKS)
    expected = GRID.to_world(np.array(PLACES))
    assert found[:, :3] == pytest.approx(expected)
    assert found[0, 3] == pytest.approx(0.9, abs=1e-3) and found[1, 3] < found[0, 3]
    assert np.isnan(found[:, 4:]).all()


def test_heads_move_the_centre_and_tell_diameter_and_malignancy() -> None:
    maps = maps_of(PLACES[:1], heads=True)
    maps[CENTRE][2] = 0.2  # 2 mm along x
    maps[SIZE] = 0.75
    maps[TRIAGE] = 3.0
    (found,) = find_candidates(maps, GRID, PEAKS)
    shifted = GRID.to_world(np.array(PLACES[0])) + np.array([0.0, 0.0, 2.0])
    assert found[:3] == pytest.approx(shifted, abs=0.2)
    assert found[4] == pytest.approx(7.5)
    assert found[5] == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_equal_neighbours_are_one_candidate_and_no_more_than_wanted_are_kept() -> None:
    flat = torch.full((1, *GRID.shape), 2.0)
    found = find_candidates(flat, GRID, PEAKS)
    assert 1 < len(found) <= 10
    away = np.linalg.norm(found[:, None, :3] - found[None, :, :3], axis=2)
    assert away[away > 0].min() >= PEAKS.least_distance_mm
    assert len(find_candidates(flat - 10, GRID, PEAKS)) == 0


def test_the_blob_detector_finds_a_ball_in_a_lung_and_its_diameter() -> None:
    grid = Grid(shape=(30, 60, 60), spacing=(2.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))
    at = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1) * grid.spacing
    voxels = np.full(grid.shape, 40.0, dtype=np.float32)
    voxels[np.linalg.norm(at - [30, 30, 30], axis=-1) < 26] = -850
    voxels[np.linalg.norm(at - [30, 36, 24], axis=-1) < 4.5] = 20
    best = find_blobs(voxels, grid)[0]
    assert best[:3] == pytest.approx([30, 36, 24], abs=1.0)
    assert best[4] == 9.0


def gathered(candidates: list[Any], nodules: list[Any]) -> dict[str, Any]:
    return {
        "candidates": [np.array(one, float).reshape(-1, 6) for one in candidates],
        "nodules": [np.array(one, float).reshape(-1, 4) for one in nodules],
        "irrelevant": [np.zeros((0, 4)) for _ in nodules],
    }


def test_accuracies_are_those_of_the_best_hit_on_each_nodule() -> None:
    judged = metrics.judge(
        gathered(
            [[(0, 0, 1, 0.9, 8.0, 0.1), (0, 0, 4, 0.8, 30.0, 0.1)], [(0, 0, 4, 0.5, 5.0, 0.1)]],
            [[(0, 0, 0, 10.0)], [(0, 0, 0, 10.0)]],
        )
    )
    assert metrics.center_accuracy(judged) == 0.5
    assert metrics.size_accuracy(judged) == pytest.approx((0.8 + 0.5) / 2)
    assert judged.curve.score == 1.0


def test_accuracy_of_nothing_found_is_zero_and_of_no_diameter_unknown() -> None:
    nothing = metrics.judge(gathered([[]], [[(0, 0, 0, 10.0)]]))
    assert (metrics.center_accuracy(nothing), metrics.size_accuracy(nothing)) == (0, 0)
    without = metrics.judge(gathered([[(0, 0, 0, 0.9, np.nan, np.nan)]], [[(0, 0, 0, 10.0)]]))
    assert np.isnan(metrics.size_accuracy(without))


def test_dice_is_taken_over_all_scans_together() -> None:
    target = torch.tensor([[[1.0, 0.6, 0.4, 0.0]]])
    one = metrics.overlap_counts(torch.tensor([[[0.9, 0.1, 0.9, 0.0]]]), target, 0.5)
    assert one.tolist() == [1, 2, 2]
    assert metrics.detection_dice(torch.stack([one, one])) == 0.5
    assert metrics.detection_dice(torch.zeros(2, 3)) == 1.0
