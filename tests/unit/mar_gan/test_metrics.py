import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainyard_trainer.recipes.mar_gan import metrics

SEEDS = st.integers(0, 2**31)


def draw(seed: int, side: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and a mask of metal, (3, 1, side, side)."""
    source = torch.Generator().manual_seed(seed)
    target = 2 * torch.rand(3, 1, side, side, generator=source, dtype=torch.float64) - 1
    noise = torch.randn(3, 1, side, side, generator=source, dtype=torch.float64)
    metal = (torch.rand(3, 1, side, side, generator=source) > 0.9).double()
    return (target + 0.2 * noise).clamp(-1, 1), target, metal


def test_psnr_of_mse_one_hundredth_is_26_decibels() -> None:
    found = metrics.psnr(torch.tensor([0.01]))
    assert found.item() == pytest.approx(26.0206, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_scores_are_scikit_images(seed: int) -> None:
    scikit = pytest.importorskip("skimage.metrics")
    image, target, _ = draw(seed)
    found = metrics.psnr(metrics.mse(image, target)), metrics.ssim(image, target)
    for row in range(3):
        pair = target[row, 0].numpy(), image[row, 0].numpy()
        psnr = scikit.peak_signal_noise_ratio(*pair, data_range=2)
        ssim = scikit.structural_similarity(
            *pair, data_range=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert found[0][row].item() == pytest.approx(psnr, abs=1e-9)
        assert found[1][row].item() == pytest.approx(ssim, abs=1e-9)


@pytest.mark.slow
def test_scores_are_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional")
    image, target, _ = (one.float() for one in draw(1))
    _, whole = functional.structural_similarity_index_measure(
        image, target, data_range=2.0, reduction="none", return_full_image=True
    )
    inner = whole[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))  # It counts windows beyond the border, too.
    assert torch.allclose(metrics.ssim(image, target), inner, atol=1e-5)
    psnr = functional.peak_signal_noise_ratio(
        image, target, data_range=2.0, reduction="none", dim=(1, 2, 3)
    )
    assert torch.allclose(metrics.psnr(metrics.mse(image, target)), psnr, atol=1e-4)
    mae = functional.mean_absolute_error(image[0], target[0])
    assert metrics.mae(image, target)[0].item() == pytest.approx(mae.item(), rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_regions_are_disjoint_and_cover_the_image(seed: int) -> None:
    image, target, metal = draw(seed)
    band = torch.nn.functional.max_pool2d(metal, 3, stride=1, padding=1)
    masks = metrics.regions(metal, band)
    assert torch.equal(sum(masks.values()), torch.ones_like(metal))  # type: ignore[arg-type]
    whole = sum(
        metrics.mse(image, target, mask).nan_to_num() * mask.sum(dim=(1, 2, 3))
        for mask in masks.values()
    )
    assert torch.allclose(whole / 24**2, metrics.mse(image, target))  # type: ignore[operator]


def test_a_regions_error_is_the_mean_over_its_pixels() -> None:
    image, target, metal = draw(7)
    found = metrics.mae(image, target, metal)
    for row in range(3):
        inside = metal[row] > 0
        expected = (image[row] - target[row])[inside].abs().mean()
        assert found[row].item() == pytest.approx(expected.item())


def test_an_image_without_metal_has_no_score_there_and_is_left_out_of_the_mean() -> None:
    image, target, metal = draw(8)
    metal[1] = 0
    found = metrics.mae(image, target, metal)
    assert found.isnan().tolist() == [False, True, False]
    assert metrics.mean_of(found) == pytest.approx(((found[0] + found[2]) / 2).item())
