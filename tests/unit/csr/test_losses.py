import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainyard_trainer.recipes.csr import losses
from trainyard_trainer.recipes.csr.metrics import aucs, mean_auc, pointing, pointing_shares

SEEDS = st.integers(0, 2**16)


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities (3, 4, 4, 2) and labels (3, 4)."""
    source = torch.Generator().manual_seed(seed)
    similarities = torch.rand(3, 4, 4, 2, generator=source, dtype=torch.float64) * 2 - 1
    return similarities, (torch.rand(3, 4, generator=source) < 0.4).double()


def pooled_by_hand(similarities: torch.Tensor, image: int, k: int, j: int, gamma: float) -> float:
    cosines = similarities[image, k, j].tolist()
    weights = [math.exp(gamma * cosine) for cosine in cosines]
    return sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)


def contrast_by_hand(seed: int, scale: float, margin: float, gamma: float) -> float:
    similarities, labels = draw(seed)
    total = 0.0
    for image in range(3):
        own = []
        for k in range(4):
            if labels[image, k]:
                pooled = [pooled_by_hand(similarities, image, k, j, gamma) for j in range(4)]
                pooled[k] -= margin
                others = sum(math.exp(scale * value) for value in pooled)
                own.append(-math.log(math.exp(scale * pooled[k]) / others))
        total += sum(own) / len(own) if own else 0.0
    return total / 3


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_info_nce_is_the_one_summed_by_hand(seed: int) -> None:
    found = losses.info_nce(*draw(seed), gamma=10.0, temperature=0.3)
    assert found.item() == pytest.approx(contrast_by_hand(seed, 1 / 0.3, 0.0, 10.0))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_soft_triple_is_the_one_summed_by_hand(seed: int) -> None:
    found = losses.soft_triple(*draw(seed), gamma=10.0, scale=20.0, margin=0.01)
    assert found.item() == pytest.approx(contrast_by_hand(seed, 20.0, 0.01, 10.0))


def test_contrastive_losses_have_right_gradients() -> None:
    similarities, labels = draw(3)
    similarities, labels = similarities[:2, :3, :3].clone().requires_grad_(), labels[:2, :3]
    for loss in (
        lambda s: losses.info_nce(s, labels, 10.0, 0.3),
        lambda s: losses.soft_triple(s, labels, 10.0, 20.0, 0.01),
    ):
        assert torch.autograd.gradcheck(loss, (similarities,))


def test_the_mean_over_two_halves_is_the_mean_over_the_batch() -> None:
    similarities, labels = draw(5)
    similarities, labels = similarities.repeat(2, 1, 1, 1), labels.repeat(2, 1)
    whole = losses.info_nce(similarities, labels, 10.0, 0.3)
    halves = [
        losses.info_nce(similarities[s], labels[s], 10.0, 0.3) for s in (slice(3), slice(3, 6))
    ]
    assert whole.item() == pytest.approx(sum(half.item() for half in halves) / 2)


def test_a_batch_without_any_concept_has_no_loss_but_a_gradient() -> None:
    similarities, labels = draw(1)
    similarities.requires_grad_()
    loss = losses.info_nce(similarities, torch.zeros_like(labels), 10.0, 0.3)
    loss.backward()
    assert loss.item() == 0
    assert similarities.grad is not None


def test_rare_labels_weigh_more_up_to_a_bound() -> None:
    labels = torch.zeros(100, 3)
    labels[:50, 0], labels[:10, 1], labels[:1, 2] = 1, 1, 1
    assert losses.positive_weights(labels).tolist() == [1, 9, 20]


def test_images_with_another_number_of_diagnoses_than_one_are_found() -> None:
    assert losses.images_without_one_label([(1, 0), (1, 1), (0, 0)]) == [1, 2]


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_auc_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 5, (20, 1), generator=source).double()
    labels = (torch.arange(20) % 3 == 0).double()[:, None]
    above, below = scores[labels[:, 0] == 1], scores[labels[:, 0] == 0]
    pairs = (above > below.T).double() + 0.5 * (above == below.T)
    assert aucs(scores, labels)[0] == pytest.approx(pairs.mean().item())


def test_a_label_that_no_image_has_is_left_out_of_the_mean() -> None:
    scores = torch.tensor([[0.1, 0.5], [0.9, 0.2]])
    assert aucs(scores, torch.tensor([[0, 0], [1, 0]])) == [1.0, None]
    assert mean_auc(scores, torch.tensor([[0, 0], [1, 0]])) == 1.0
    assert math.isnan(mean_auc(scores, torch.zeros(2, 2)))


def test_pointing_counts_peaks_inside_a_box() -> None:
    maps = torch.zeros(1, 3, 4, 4)
    maps[0, 0, 0, 1], maps[0, 1, 3, 3], maps[0, 2, 2, 2] = 1, 1, 1
    boxes = torch.zeros(1, 3, 16, 16, dtype=torch.bool)
    boxes[0, 0, :4, 4:8] = True  # Around the first peak.
    boxes[0, 1, :4, :4] = True  # Elsewhere; the third concept has no box.
    assert pointing(maps, boxes).tolist() == [1, 2, 32, 512]


def test_a_share_of_hits_stands_beside_what_chance_has() -> None:
    counted = {"pointing": torch.tensor([1, 2, 32, 512])}
    counted["prototype_pointing"] = torch.tensor([2, 2, 32, 512])
    assert pointing_shares(counted) == {
        "pointing": 0.5,
        "pointing_chance": 0.0625,
        "prototype_pointing": 1.0,
    }
    assert pointing_shares({"pointing": torch.tensor([0, 0, 0, 0])}) == {}
