"""A trained network on whole scans: its maps, the candidates in them, and what they are worth."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainyard_trainer.recipes.lung_nodule.candidates import Candidates, Peaks, find_candidates
from trainyard_trainer.recipes.lung_nodule.config import Config
from trainyard_trainer.recipes.lung_nodule.data import WholeScan
from trainyard_trainer.recipes.lung_nodule.grid import Grid
from trainyard_trainer.recipes.lung_nodule.metrics import overlap_counts, rows
from trainyard_trainer.recipes.lung_nodule.objective import Objective
from trainyard_trainer.recipes.lung_nodule.pictures import MOST_SAMPLES, sample_of
from trainyard_trainer.recipes.lung_nodule.sliding import View, Windows, averaged, views
from trainyard_trainer.recipes.lung_nodule.targets import SIGMA_MM, heatmap


@dataclass(frozen=True)
class Reader:
    """Reads scans as `inference` is configured."""

    config: Config
    patch_size: tuple[int, int, int]
    """Of the sliding window; its stride keeps the configured share of it."""

    def maps(self, network: nn.Module, image: Tensor) -> Tensor:
        """image: (C, D, H, W). Returns (K, D, H, W), averaged over views and windows."""
        return averaged(network, image, self._windows(), self._views())

    def candidates(self, maps: Tensor, grid: Grid) -> Candidates:
        """The likeliest peaks."""
        chosen = self.config.inference
        peaks = Peaks(
            threshold=chosen.threshold,
            least_distance_mm=chosen.least_distance_mm,
            most=chosen.most_candidates,
        )
        return find_candidates(maps, grid, peaks)

    def judged(self, network: nn.Module, sample: WholeScan, objective: Objective) -> dict[str, Any]:
        """One scan's outputs by name, tensors and objects alike; see metrics.py."""
        maps = self.maps(network, sample.image)
        spacing = torch.tensor(sample.grid.spacing, device=maps.device)
        truth = heatmap(sample.findings[None], spacing[None], maps.shape[1:], SIGMA_MM)[0]
        threshold = self.config.inference.operating_threshold
        probability, candidates = torch.sigmoid(maps[0]), self.candidates(maps, sample.grid)
        losses = objective.of_scan(maps, sample.findings, spacing)
        shown = None
        if sample.number < MOST_SAMPLES:
            shown = sample_of(sample, probability, truth, candidates, threshold)
        return {
            **{name: value.double() for name, value in losses.items()},
            "overlap": overlap_counts(probability, truth, threshold),
            "uid": sample.scan.uid,
            "candidates": candidates,
            "nodules": rows(sample.scan.nodules),
            "irrelevant": rows(sample.scan.irrelevant),
            "shown": shown,
        }

    def _windows(self) -> Windows:
        data = self.config.data
        sides = zip(self.patch_size, data.stride, data.patch_size, strict=True)
        depth, height, width = (max(1, side * step // whole) for side, step, whole in sides)
        return Windows(
            size=self.patch_size,
            stride=(depth, height, width),
            blend=self.config.inference.blend,
            batch_size=self.config.inference.windows_at_once,
        )

    def _views(self) -> list[View]:
        tta = self.config.inference.tta
        if not tta.enabled:
            return [View()]
        return views(tta.augmentation_types, tta.num_augmentations)
