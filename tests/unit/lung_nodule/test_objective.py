"""Targets, and the loss over patches and over whole scans."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainyard_trainer.recipes.lung_nodule.data import Batch
from trainyard_trainer.recipes.lung_nodule.losses import focal_loss
from trainyard_trainer.recipes.lung_nodule.model import CENTRE, SIZE, TRIAGE
from trainyard_trainer.recipes.lung_nodule.objective import Objective
from trainyard_trainer.recipes.lung_nodule.targets import (
    IGNORED,
    PADDING,
    SIGMA_MM,
    TARGET,
    counted,
    heatmap,
)
from trainyard_trainer.recipes.lung_nodule.training_config import LossConfig, MiningConfig

SHAPE = torch.Size((8, 10, 12))
SPACING = torch.tensor([[2.0, 1.0, 0.5]])
coordinates = st.floats(0, 7)


def findings(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor([[list(row) for row in rows]])


def batch_of(*rows: tuple[float, ...]) -> Batch:
    return Batch(image=torch.zeros(1, 1, *SHAPE), findings=findings(*rows), spacing=SPACING)


NODULE = (4.0, 5.0, 6.0, 8.0, float(TARGET), 1.0)


@given(st.tuples(coordinates, coordinates, coordinates), st.tuples(*[coordinates] * 3))
def test_heatmap_is_a_gaussian_in_millimetres_combined_by_maximum(
    one: tuple[float, float, float], other: tuple[float, float, float]
) -> None:
    rows = [(*place, 8.0, float(TARGET), 0.0) for place in (one, other)]
    found = heatmap(findings(*rows), SPACING, SHAPE, SIGMA_MM)[0]
    for voxel in [(0, 0, 0), (3, 4, 5), (7, 9, 11)]:
        values = []
        for place in (one, other):
            away = [(a - b) * s for a, b, s in zip(voxel, place, (2.0, 1.0, 0.5), strict=True)]
            values.append(math.exp(-sum(d * d for d in away) / (2 * 3.0**2)))
        assert found[voxel].item() == pytest.approx(max(values), rel=1e-4, abs=1e-6)


def test_padding_and_ignored_findings_leave_no_heat() -> None:
    rows = [(*NODULE[:4], float(kind), 0.0) for kind in (PADDING, IGNORED)]
    assert heatmap(findings(*rows), SPACING, SHAPE, SIGMA_MM).abs().sum() == 0


@pytest.mark.parametrize("diameter", [4.0, 40.0])
def test_nothing_is_asked_within_an_ignored_finding_and_a_sigma_around_it(diameter: float) -> None:
    asked = counted(findings((4, 5, 6, diameter, IGNORED, 0)), SPACING, SHAPE, SIGMA_MM)[0]
    at = torch.stack(torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij"), -1).float()
    away = ((at - torch.tensor([4.0, 5, 6])) * SPACING[0]).norm(dim=-1)
    assert torch.equal(asked, away > diameter / 2 + SIGMA_MM)


def test_detection_is_the_mean_focal_loss_over_what_is_asked() -> None:
    torch.manual_seed(0)
    batch = batch_of(NODULE, (1.0, 1.0, 1.0, 4.0, float(IGNORED), 0.0))
    logits = torch.randn(1, 1, *SHAPE)
    found = Objective(LossConfig(type="focal"), MiningConfig())(logits, batch)
    target = heatmap(batch.findings, SPACING, SHAPE, SIGMA_MM)
    asked = counted(batch.findings, SPACING, SHAPE, SIGMA_MM)
    assert list(found) == ["loss"]
    torch.testing.assert_close(found["loss"][0], focal_loss(logits[:, 0], target)[asked].mean())


def perfect() -> torch.Tensor:
    """What a network would say that knows NODULE: (1, 8, D, H, W)."""
    outputs = torch.zeros(1, 8, *SHAPE)
    at = torch.stack(torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")).float()
    away = (torch.tensor(NODULE[:3])[:, None, None, None] - at) * SPACING[0][:, None, None, None]
    outputs[0, CENTRE] = away / 10
    outputs[0, SIZE] = NODULE[3] / 10
    outputs[0, TRIAGE] = 20
    return outputs


def test_heads_that_are_right_cost_nothing() -> None:
    found = Objective(LossConfig(), MiningConfig())(perfect(), batch_of(NODULE))
    assert found["regression"].item() == pytest.approx(0, abs=1e-8)
    assert found["triage"].item() == pytest.approx(0, abs=1e-6)


def test_a_diameter_that_is_30_mm_off_costs_half_of_its_smooth_l1() -> None:
    outputs = perfect()
    outputs[0, SIZE] += 3
    found = Objective(LossConfig(), MiningConfig())(outputs, batch_of(NODULE))
    assert found["regression"].item() == pytest.approx(2.5 / 2)


def test_weights_of_the_multi_task_loss_are_the_guides() -> None:
    torch.manual_seed(0)
    found = Objective(LossConfig(), MiningConfig())(torch.randn(1, 8, *SHAPE), batch_of(NODULE))
    expected = found["detection"] + 0.5 * found["regression"] + 0.3 * found["triage"]
    torch.testing.assert_close(found["loss"], expected)


def test_triage_is_masked_without_a_label_and_heads_without_a_nodule() -> None:
    torch.manual_seed(0)
    outputs = torch.randn(1, 8, *SHAPE)
    objective = Objective(LossConfig(), MiningConfig())
    unlabelled = objective(outputs, batch_of((*NODULE[:5], math.nan)))
    empty = objective(outputs, batch_of((0.0,) * 6))
    assert (unlabelled["triage"].item(), empty["triage"].item()) == (0, 0)
    assert unlabelled["regression"].item() > 0
    assert empty["regression"].item() == 0


@pytest.mark.parametrize("kind", ["multi_task", "focal", "dice"])
@pytest.mark.parametrize("mines", [False, True])
def test_loss_of_a_batch_is_the_mean_of_its_patches(kind: str, mines: bool) -> None:
    """So it does not matter how a global batch is cut over ranks."""
    torch.manual_seed(0)
    objective = Objective(LossConfig(type=kind), MiningConfig(enabled=mines))  # type: ignore[arg-type]
    rows = torch.cat([findings(NODULE), findings((0.0,) * 6), findings((2.0, *NODULE[1:]))])
    batch = Batch(torch.zeros(3, 1, *SHAPE), rows, SPACING.expand(3, -1))
    outputs = torch.randn(3, 8 if kind == "multi_task" else 1, *SHAPE)
    together = objective(outputs, batch)
    for number in range(3):
        one = slice(number, number + 1)
        alone = Batch(batch.image[one], rows[one], SPACING)
        for name, value in objective(outputs[one], alone).items():
            torch.testing.assert_close(value, together[name][one])


def test_a_scan_is_judged_at_each_of_its_nodules() -> None:
    objective = Objective(LossConfig(), MiningConfig())
    outputs = perfect()
    found = objective.of_scan(outputs[0], findings(NODULE)[0], SPACING[0])
    assert found["regression"].item() == pytest.approx(0, abs=1e-8)
    other = (1.0, 2.0, 3.0, 8.0, float(TARGET), 0.0)
    both = objective.of_scan(outputs[0], findings(NODULE, other)[0], SPACING[0])
    assert both["regression"].item() > 0.01
    none = objective.of_scan(outputs[0], torch.zeros(0, 6), SPACING[0])
    assert none["regression"].item() == 0
