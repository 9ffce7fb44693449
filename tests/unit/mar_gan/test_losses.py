import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from trainyard_trainer.recipes.mar_gan import losses
from trainyard_trainer.recipes.mar_gan.discriminator import Verdict
from trainyard_trainer.recipes.mar_gan.projector import ParallelBeam

SEEDS = st.integers(0, 2**31)


def draw(seed: int, side: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Generated and real image, and artefact image, (2, 1, side, side)."""
    source = torch.Generator().manual_seed(seed)
    fake, real, artefact = (
        2 * torch.rand(2, 1, side, side, generator=source, dtype=torch.float64) - 1
        for _ in range(3)
    )
    return fake, real, artefact


def verdicts(*logits: float) -> list[Verdict]:
    return [Verdict(torch.full((2, 1, 3, 3), float(value)), ()) for value in logits]


@pytest.mark.parametrize(("radius", "pixels"), [(0, 1), (3, 49), (5, 121), (7, 225)])
def test_one_metal_pixel_is_dilated_to_a_square(radius: int, pixels: int) -> None:
    mask = torch.zeros(1, 1, 31, 31)
    mask[0, 0, 15, 15] = 1
    assert losses.dilate(mask, radius).sum() == pixels


def test_hinge_of_the_guides_numbers() -> None:
    assert losses.hinge_discriminator(verdicts(0.5), verdicts(-0.25)).item() == 1.25
    assert losses.hinge_generator(verdicts(-0.25)).item() == 0.25


def test_scales_are_added_up() -> None:
    assert losses.hinge_discriminator(verdicts(0.5, 2), verdicts(-0.25, 0.5)).item() == 2.75
    assert losses.hinge_generator(verdicts(-0.25, 1)).item() == -0.75


def test_weights_are_one_or_two_so_that_three_never_binds() -> None:
    band = torch.tensor([0.0, 1.0])
    assert losses.pixel_weights(band, beta=1, w_max=3).tolist() == [1, 2]
    assert losses.pixel_weights(band, beta=1, w_max=1.5).tolist() == [1, 1.5]
    assert losses.pixel_weights(band, beta=0, w_max=3).tolist() == [1, 1]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 3), st.floats(0, 3), st.floats(1, 4))
def test_pixel_losses_are_their_definitions(
    seed: int, radius: int, beta: float, w_max: float
) -> None:
    fake, real, artefact = draw(seed)
    mask = losses.metal_mask(artefact, 0.6)
    weights = losses.pixel_weights(losses.dilate(mask, radius), beta, w_max)
    metal = artefact.numpy() > 0.6
    square = np.ones((1, 1, 2 * radius + 1, 2 * radius + 1))
    band = ndimage.binary_dilation(metal, structure=square) if metal.any() else metal
    w = np.minimum(1 + beta * band, w_max)
    error = fake.numpy() - real.numpy()
    across, down = np.zeros_like(error), np.zeros_like(error)
    across[..., :-1] = error[..., 1:] - error[..., :-1]
    down[..., :-1, :] = error[..., 1:, :] - error[..., :-1, :]
    expected = {
        "reconstruction": np.mean(np.abs(w * error)),
        "edge": np.mean(w * (np.abs(across) + np.abs(down))),
        "metal": np.mean(np.abs(metal * error)),
    }
    found = {
        "reconstruction": losses.reconstruction_loss(fake, real, weights).item(),
        "edge": losses.edge_loss(fake, real, weights).item(),
        "metal": losses.metal_consistency_loss(fake, real, mask).item(),
    }
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_physics_is_the_projections_difference_along_rays_without_metal(seed: int) -> None:
    fake, real, artefact = draw(seed, side=8)
    project = ParallelBeam(5)
    metal = losses.metal_mask(artefact, 0.9)
    found = losses.physics_loss(fake, real, metal, project).item()
    clear = (project(metal) == 0).double()
    expected = (clear * (project(fake) - project(real)).abs()).mean().item()
    assert found == pytest.approx(expected, abs=1e-12)


def test_physics_ignores_what_only_metal_rays_see() -> None:
    real = torch.zeros(1, 1, 16, 16)
    metal = torch.zeros(1, 1, 16, 16)
    metal[..., 8, 8] = 1
    fake = metal.clone()
    project = ParallelBeam(12)
    assert losses.physics_loss(fake, real, metal, project) == 0
    assert losses.physics_loss(fake, real, torch.zeros_like(metal), project) > 0


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_bce_is_torchs_with_labels_one_and_zero(seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    real, fake = (
        [Verdict(3 * torch.randn(2, 1, n, n, generator=source), ()) for n in (3, 2)]
        for _ in range(2)
    )
    bce = torch.nn.functional.binary_cross_entropy_with_logits

    def total(given: list[Verdict], label: float) -> float:
        return sum(bce(o.logits, torch.full_like(o.logits, label)).item() for o in given)

    found = losses.bce_discriminator(real, fake).item()
    assert found == pytest.approx(total(real, 1) + total(fake, 0), rel=1e-5)
    assert losses.bce_generator(fake).item() == pytest.approx(total(fake, 1), rel=1e-5)


def test_feature_matching_adds_up_layers_and_scales_and_leaves_the_real_ones_alone() -> None:
    real = [Verdict(torch.zeros(1), (torch.zeros(2, 2, requires_grad=True),)) for _ in range(2)]
    fake = [
        Verdict(torch.zeros(1), (torch.full((2, 2), v, requires_grad=True),)) for v in (1.0, 2.0)
    ]
    loss = losses.feature_matching_loss(real, fake)
    assert loss.item() == 3
    loss.backward()
    assert all(one.features[0].grad is None for one in real)
    assert all(one.features[0].grad is not None for one in fake)


def test_a_discriminator_without_features_cannot_be_matched() -> None:
    with pytest.raises(ValueError, match="no features to match"):
        losses.feature_matching_loss(verdicts(0), verdicts(0))


def test_edge_loss_passes_gradcheck() -> None:
    fake, real, artefact = draw(3, side=5)
    weights = losses.pixel_weights(losses.metal_mask(artefact, 0.6), 1, 3)
    fake.requires_grad_()
    assert torch.autograd.gradcheck(lambda image: losses.edge_loss(image, real, weights), (fake,))


def test_projector_passes_gradcheck() -> None:
    image = draw(4, side=6)[0].requires_grad_()
    assert torch.autograd.gradcheck(ParallelBeam(4), (image,))


def test_row_sums_of_a_centred_disc_are_equal_within_a_tenth_of_a_percent() -> None:
    along = torch.arange(128) - 63.5
    disc = ((along[:, None] ** 2 + along**2) < 45**2).float()[None, None]
    sums = ParallelBeam()(disc).sum(dim=2)[0]  # (180,)
    assert sums.shape == (180,)
    assert sums.mean().item() == pytest.approx(disc.sum().item(), rel=1e-3)
    assert ((sums - sums.mean()).abs() / sums.mean()).max() < 1e-3


def test_a_disc_casts_the_chords_of_a_circle() -> None:
    along = torch.arange(128) - 63.5
    disc = ((along[:, None] ** 2 + along**2) < 45**2).float()[None, None]
    chords = 2 * (45**2 - along**2).clamp(min=0).sqrt()
    assert (ParallelBeam(7)(disc)[0] - chords).abs().mean() < 1


def test_projections_at_0_and_90_degrees_are_sums_of_columns_and_rows() -> None:
    image = draw(5, side=8)[0]
    straight, quarter = ParallelBeam(2)(image).unbind(dim=1)
    assert torch.allclose(straight, image.sum(dim=2)[:, 0])
    rows = image.sum(dim=3)[:, 0]
    assert torch.allclose(quarter, rows) or torch.allclose(quarter, rows.flip(1))


def test_projection_is_linear_and_the_same_in_pieces() -> None:
    fake, real, _ = draw(6, side=12)
    whole, pieces = ParallelBeam(9, chunk=9), ParallelBeam(9, chunk=2)
    assert torch.allclose(whole(fake) - whole(real), whole(fake - real))
    assert torch.allclose(whole(fake), pieces(fake))
    assert math.isclose(whole(fake).shape[1], 9)
