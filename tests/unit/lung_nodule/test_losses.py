import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainyard_trainer.recipes.lung_nodule.losses import (
    WITHOUT_POSITIVES,
    Mining,
    dice_loss,
    focal_loss,
    mean_where,
    mine_hard_negatives,
    regression_loss,
    triage_loss,
)

numbers = st.floats(-20, 20, width=32)


def rows(data: st.DataObject, count: int, size: int) -> Tensor:
    return torch.tensor([data.draw(st.lists(numbers, min_size=size, max_size=size))] * count)


@pytest.mark.parametrize(
    ("target", "expected"),
    [(1.0, [0.0433217, 0.00045089, 0.4125196]), (0.0, [0.1299651, 1.2375586, 0.0013527])],
)
def test_focal_loss_has_the_pages_values(target: float, expected: list[float]) -> None:
    losses = focal_loss(torch.tensor([0.0, 2.0, -2.0]), torch.full((3,), target))
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)


def test_smooth_l1_has_the_pages_values() -> None:
    predicted, has = torch.tensor([[0.5], [1.0], [3.0]]), torch.ones(3, dtype=torch.bool)
    losses = regression_loss(predicted, torch.zeros(3, 1), has)
    assert losses.tolist() == [0.125, 0.5, 2.5]


def test_triage_loss_has_the_pages_values() -> None:
    losses = triage_loss(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.ones(2, dtype=torch.bool))
    assert losses.tolist() == pytest.approx([2.0794415, 0.6931472])


@given(logit=numbers, target=st.floats(0, 1), alpha=st.floats(0, 1), gamma=st.floats(0, 5))
def test_focal_loss_is_its_definition(
    logit: float, target: float, alpha: float, gamma: float
) -> None:
    found = focal_loss(torch.tensor(logit).double(), torch.tensor(target), alpha, gamma).item()
    p = 1 / (1 + math.exp(-logit))
    q = 1 / (1 + math.exp(logit))
    by_hand = target * alpha * q**gamma * -math.log(p)
    by_hand += (1 - target) ** 4 * (1 - alpha) * p**gamma * -math.log(q)
    assert found == pytest.approx(by_hand, rel=1e-6, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), alpha=st.floats(0, 1), gamma=st.floats(0, 4))
def test_focal_loss_of_classes_is_torchvisions(
    data: st.DataObject, alpha: float, gamma: float
) -> None:
    ops = pytest.importorskip("torchvision.ops")
    logits = rows(data, 1, 6)[0]
    target = torch.tensor([1.0, 0, 1, 0, 1, 0])
    theirs = ops.sigmoid_focal_loss(logits, target, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(
        focal_loss(logits, target, alpha, gamma), theirs, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), smooth=st.floats(0.1, 2), squared=st.booleans())
def test_dice_loss_is_monais(seed: int, smooth: float, squared: bool) -> None:
    monai = pytest.importorskip("monai.losses")
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 1, 4, 4, 4, generator=generator)
    target = (torch.rand(3, 1, 4, 4, 4, generator=generator) > 0.7).float()
    theirs = monai.DiceLoss(
        sigmoid=True, squared_pred=squared, smooth_nr=smooth, smooth_dr=smooth, reduction="none"
    )(logits, target)
    ours = dice_loss(logits[:, 0], target[:, 0], smooth, squared)
    torch.testing.assert_close(ours, theirs.reshape(-1))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradients_are_those_of_finite_differences(gamma: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, dtype=torch.double, requires_grad=True)
    target = torch.rand(2, 5, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, target, 0.25, gamma), logits)
    for squared in (True, False):
        assert torch.autograd.gradcheck(lambda x, s=squared: dice_loss(x, target, 1.0, s), logits)
    has = torch.tensor([True, False])
    assert torch.autograd.gradcheck(lambda x: regression_loss(x, target, has), logits)
    assert torch.autograd.gradcheck(lambda x: triage_loss(x[:, 0], target[:, 0], has), logits)


@given(
    seed=st.integers(0, 9999),
    size=st.integers(1, 300),
    positives=st.integers(0, 20),
    ratio=st.floats(0.1, 5),
    hard=st.floats(0.01, 1),
)
def test_mining_keeps_all_positives_and_the_worst_negatives(
    seed: int, size: int, positives: int, ratio: float, hard: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(1, size, generator=generator)
    positive = torch.zeros(1, size, dtype=torch.bool)
    positive[0, :positives] = True
    counted = torch.rand(1, size, generator=generator) > 0.2
    mining = Mining(neg_pos_ratio=ratio, batch_hard_ratio=hard)
    kept = mine_hard_negatives(losses, positive, counted, mining)[0]
    is_positive, is_negative = (positive & counted)[0], (~positive & counted)[0]
    found, among = int(is_positive.sum()), int(is_negative.sum())
    wanted = math.ceil(torch.tensor(ratio) * found) if found else WITHOUT_POSITIVES
    most = min(wanted, math.ceil(torch.tensor(hard) * among))
    assert torch.equal(kept & positive[0], is_positive)
    assert int((kept & ~positive[0]).sum()) == most
    worst = losses[0][is_negative].sort(descending=True).values[:most]
    chosen = losses[0][kept & is_negative].sort(descending=True).values
    assert torch.equal(worst, chosen)


def test_of_equal_losses_mining_keeps_no_more_than_of_others() -> None:
    losses, positive = torch.ones(1, 100), torch.zeros(1, 100, dtype=torch.bool)
    positive[0, 0] = True
    everywhere = torch.ones_like(positive)
    assert int(mine_hard_negatives(losses, positive, everywhere, Mining()).sum()) == 1 + 3


def test_a_patch_is_mined_the_same_beside_any_other() -> None:
    torch.manual_seed(0)
    losses = torch.rand(3, 50)
    positive, everywhere = torch.rand(3, 50) > 0.9, torch.ones(3, 50, dtype=torch.bool)
    together = mine_hard_negatives(losses, positive, everywhere, Mining())
    for row in range(3):
        one = slice(row, row + 1)
        alone = mine_hard_negatives(losses[one], positive[one], everywhere[one], Mining())
        assert torch.equal(together[one], alone)


def test_what_has_no_target_or_label_costs_nothing_and_is_never_nan() -> None:
    has, nan = torch.tensor([False]), torch.tensor([[float("nan")] * 3])
    predicted = torch.ones(1, 3, requires_grad=True)
    loss = regression_loss(predicted, nan, has) + triage_loss(predicted[:, 0], nan[:, 0], has)
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert predicted.grad is not None and predicted.grad.tolist() == [[0.0] * 3]


def test_mean_counts_what_is_counted() -> None:
    values, counted = (
        torch.tensor([[1.0, 2, 3], [4, 5, 6]]),
        torch.tensor([[True, False, True]] * 2),
    )
    counted[1] = False
    assert mean_where(values, counted).tolist() == [2.0, 0.0]
