"""The configured loss over a batch of patches, or over a whole scan."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from trainyard_trainer.recipes.lung_nodule.data import Batch
from trainyard_trainer.recipes.lung_nodule.losses import (
    Mining,
    dice_loss,
    focal_loss,
    mean_where,
    mine_hard_negatives,
    regression_loss,
    triage_loss,
)
from trainyard_trainer.recipes.lung_nodule.model import CENTRE, SIZE, TRIAGE, pool_around
from trainyard_trainer.recipes.lung_nodule.targets import (
    SIGMA_MM,
    TARGET,
    counted,
    gaussian,
    heatmap,
    primary,
)
from trainyard_trainer.recipes.lung_nodule.training_config import LossConfig, MiningConfig

_POSITIVE = 0.05
"""A voxel whose target is at least this is a positive of hard negative mining: with a larger one
the worst negatives would be those around a nodule's centre, and no others would ever be mined."""
_MM = 10.0
"""The heads speak in tens of millimetres, in which their loss is taken too: in millimetres it would
be a hundred times that of the heatmap, and nothing else would be learnt at first."""
_REACH = 4.0
"""Sigmas around a nodule within which its heads are judged in a whole scan."""


class Objective:
    """Losses by name, a value per sample: `loss` is what is minimised."""

    def __init__(self, config: LossConfig, mining: MiningConfig) -> None:
        self._config = config
        self._mining = (
            Mining(neg_pos_ratio=mining.neg_pos_ratio, batch_hard_ratio=mining.batch_hard_ratio)
            if mining.enabled
            else None
        )

    def __call__(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """outputs: (B, K, D, H, W). Returns (B,) each."""
        outputs = outputs.float()
        detection = self._detection(outputs[:, 0], batch)
        if not self._config.has_heads:
            return {"loss": detection}
        return self._weighted(detection, self._heads(outputs, batch))

    def of_scan(self, maps: Tensor, findings: Tensor, spacing: Tensor) -> dict[str, Tensor]:
        """As if a scan were one patch, its heads judged at each nodule. maps: (K, D, H, W).

        findings: (M, 6). spacing: (3,). Returns scalars.
        """
        batch = Batch(image=maps[None], findings=findings[None], spacing=spacing[None])
        detection = self._detection(maps[None, 0].float(), batch)[0]
        if not self._config.has_heads:
            return {"loss": detection}
        nodules = [row for row in findings if row[4] == TARGET]
        judged = [self._heads(*_around(maps, row, spacing)) for row in nodules]
        zero = torch.zeros((), device=maps.device)
        means = {
            name: torch.stack([one[name][0] for one in judged]).mean() if judged else zero
            for name in ("regression", "triage")
        }
        return self._weighted(detection, means)

    def _weighted(self, detection: Tensor, heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
        config = self._config
        total = config.detection_weight * detection
        total = total + config.regression_weight * heads["regression"]
        total = total + config.triage_weight * heads["triage"]
        return {"loss": total, "detection": detection, **heads}

    def _detection(self, logits: Tensor, batch: Batch) -> Tensor:
        """(B, D, H, W) to (B,)."""
        config, shape = self._config.detection, logits.shape[1:]
        target = heatmap(batch.findings, batch.spacing, shape, SIGMA_MM)
        asked = counted(batch.findings, batch.spacing, shape, SIGMA_MM)
        if config.type == "dice":
            silent = logits.masked_fill(~asked, -1e4)
            return dice_loss(silent, target * asked, config.smooth, config.squared_pred)
        losses = focal_loss(logits, target, config.alpha, config.gamma).flatten(1)
        asked = asked.flatten(1)
        if self._mining is not None:
            positive = target.flatten(1) >= _POSITIVE
            asked = mine_hard_negatives(losses, positive, asked, self._mining)
        return mean_where(losses, asked)

    def _heads(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Regression and triage at the nodule that each patch was cut for."""
        config = self._config
        nodule, has_one = primary(batch.findings)
        beta = config.regression_loss.beta
        shape = outputs.shape[2:]
        weight = gaussian(nodule[:, :3], batch.spacing, shape, SIGMA_MM)
        away = _offsets(nodule[:, :3], batch.spacing, shape)
        misses = F.smooth_l1_loss(outputs[:, CENTRE], away / _MM, beta=beta, reduction="none")
        centre = pool_around(misses, weight).mean(1) * has_one
        size = pool_around(outputs[:, SIZE], weight)  # (B, 3)
        diameters = nodule[:, 3, None].expand(-1, 3) / _MM
        grade = pool_around(outputs[:, TRIAGE], weight)[:, 0]
        label = nodule[:, 5]
        return {
            "regression": (centre + regression_loss(size, diameters, has_one, beta)) / 2,
            "triage": triage_loss(
                grade, label, has_one & ~label.isnan(), config.triage_loss.pos_weight
            ),
        }


def _offsets(centres: Tensor, spacing: Tensor, shape: torch.Size) -> Tensor:
    """From each voxel to a point in mm: (B, 3, D, H, W)."""
    parts = []
    for axis, side in enumerate(shape):
        at = torch.arange(side, device=centres.device, dtype=centres.dtype)
        away = (centres[:, axis, None] - at[None]) * spacing[:, axis, None]  # (B, side)
        view = [len(centres), 1, 1, 1]
        view[axis + 1] = side
        parts.append(away.reshape(view).expand(len(centres), *shape))
    return torch.stack(parts, dim=1)


def _around(maps: Tensor, row: Tensor, spacing: Tensor) -> tuple[Tensor, Batch]:
    """A box of a scan around one nodule, as a batch of one."""
    reach = (_REACH * SIGMA_MM / spacing).ceil()
    shape = torch.tensor(maps.shape[1:], device=maps.device)
    low = (row[:3] - reach).floor().clamp(min=0).minimum(shape - 1).long()
    high = (row[:3] + reach + 1).ceil().minimum(shape).maximum(low + 1).long()
    place = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    moved = row.clone()
    moved[:3] -= low
    box = maps[(slice(None), *place)].float()[None]
    return box, Batch(image=box, findings=moved[None, None], spacing=spacing[None])
