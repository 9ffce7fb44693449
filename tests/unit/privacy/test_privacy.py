import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.group_norm import replace_batch_norm
from trainyard_trainer.privacy import (
    PoissonSampler,
    Privacy,
    clipped_sums,
    epsilon,
    without_in_place,
)
from trainyard_trainer.privacy_config import PrivacyConfig
from trainyard_trainer.recipe import Site

pytest.importorskip("opacus")
GUIDE = {"noise_multiplier": 1.1, "max_grad_norm": 1.0, "target_epsilon": 3.0, "target_delta": 1e-5}


def make_privacy(samples: int = 265, batch: int = 32, epochs: int = 50, **config: Any) -> Privacy:
    site = Site(data_path=None, scratch=Path("unused"), device=torch.device("cpu"))
    told = PrivacyConfig(**config)
    return Privacy(told, site, samples=samples, batch_size=batch, epochs=epochs)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )


@pytest.mark.parametrize(
    ("sigma", "epochs", "spent"), [(1.3, 15, 0.9544), (1.1, 60, 2.5966), (0.7, 45, 6.3181)]
)
def test_epsilons_of_the_table(sigma: float, epochs: int, spent: float) -> None:
    steps = epochs * 60_000 // 256
    assert epsilon([(sigma, 256 / 60_000, steps)], 1e-5) == pytest.approx(spent, abs=5e-5)


def test_guides_budget_is_refused_before_the_start_with_the_noise_that_would_do() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_privacy(**GUIDE)
    assert str(caught.value) == (
        "spec.config.training.dp.noise_multiplier: 1.1 spends an epsilon of 16.1 in 50 epochs of "
        "265 samples, more than target_epsilon 3; write noise_multiplier: 3.665, leave it out to "
        "have it computed, or train for fewer epochs."
    )
    assert make_privacy(**GUIDE | {"noise_multiplier": 3.672}).noise_multiplier == 3.672
    assert make_privacy(**GUIDE | {"noise_multiplier": 3.665}).noise_multiplier == 3.665


def test_noise_that_is_not_given_keeps_to_the_budget_and_hardly_more() -> None:
    privacy = make_privacy(target_epsilon=3.0)
    steps = 50 * privacy.steps_per_epoch
    assert (privacy.steps_per_epoch, privacy.sample_rate) == (9, 1 / 9)
    spent = epsilon([(privacy.noise_multiplier, 1 / 9, steps)], 1e-5)
    assert 2.99 < spent <= 3.0
    utils = pytest.importorskip("opacus.accountants.utils")
    theirs = utils.get_noise_multiplier(
        target_epsilon=3.0, target_delta=1e-5, sample_rate=1 / 9, steps=steps, accountant="rdp"
    )
    assert privacy.noise_multiplier == pytest.approx(theirs, rel=0.01)


def test_run_may_stop_after_the_last_epoch_that_is_paid_for() -> None:
    privacy = make_privacy(**GUIDE, when_spent="stop")
    assert privacy.epochs == 1
    assert epsilon([(1.1, 1 / 9, 9 * privacy.epochs)], 1e-5) <= 3.0
    assert epsilon([(1.1, 1 / 9, 9 * (privacy.epochs + 1))], 1e-5) > 3.0
    with pytest.raises(ConfigurationError, match="spends an epsilon of"):
        make_privacy(**GUIDE | {"noise_multiplier": 0.3}, when_spent="stop")


def per_sample(network: nn.Module, images: Tensor, labels: Tensor) -> list[list[Tensor]]:
    """The gradients of each sample, one backward pass for each."""
    found = []
    for image, label in zip(images, labels, strict=True):
        network.zero_grad()
        nn.functional.cross_entropy(network(image[None]), label[None]).backward()
        found.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    return found


@pytest.mark.parametrize("pieces", [(6,), (4, 2), (1, 5)])
def test_clipped_sums_are_those_of_one_backward_pass_a_sample(pieces: tuple[int, ...]) -> None:
    privacy = make_privacy()
    plain = small_network()
    network = privacy.prepare(copy.deepcopy(plain))
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    for image, label in zip(images.split(pieces), labels.split(pieces), strict=True):
        nn.functional.cross_entropy(network(image), label).backward()
    expected = [torch.zeros_like(p) for p in plain.parameters()]
    for gradients in per_sample(plain, images, labels):
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for total, gradient in zip(expected, gradients, strict=True):
            total.add_(gradient * min(1.0, (0.5 / norm).item()))
    found = clipped_sums(list(network.parameters()), 0.5)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_clipping_is_that_of_opacus() -> None:
    optimizers = pytest.importorskip("opacus.optimizers")
    images, labels = torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    results = []
    for is_theirs in (True, False):
        network = make_privacy().prepare(small_network())
        nn.functional.cross_entropy(network(images), labels).backward()
        parameters = list(network.parameters())
        if is_theirs:
            theirs = optimizers.DPOptimizer(
                torch.optim.SGD(parameters, lr=0.1),
                noise_multiplier=0.0,
                max_grad_norm=0.3,
                expected_batch_size=5,
            )
            theirs.clip_and_accumulate()
            results.append([p.summed_grad for p in parameters])
        else:
            results.append(clipped_sums(parameters, 0.3))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def stepped(samples: int, seed: int = 3) -> tuple[nn.Module, Privacy]:
    """A network after one private step of plain descent with rate 1."""
    privacy = make_privacy(noise_multiplier=4.0, max_grad_norm=0.5, noise_seed=seed)
    network = privacy.prepare(small_network())
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    privacy.attach(optimizer)
    if samples:
        images, labels = torch.ones(samples, 3, 8, 8), torch.zeros(samples, dtype=torch.int64)
        nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
    return network, privacy


def test_empty_batch_is_a_step_of_noise_alone_and_is_paid_for() -> None:
    before = small_network()
    network, privacy = stepped(0)
    change = torch.cat(
        [
            (a - b).flatten().detach()
            for a, b in zip(network.parameters(), before.parameters(), strict=True)
        ]
    )
    assert change.std().item() == pytest.approx(4.0 * 0.5 / (265 / 9), rel=0.1)
    assert privacy.history == [(4.0, 1 / 9, 1)]
    assert privacy.spent == pytest.approx(epsilon([(4.0, 1 / 9, 1)], 1e-5))


def test_noise_follows_from_the_secret_and_the_step() -> None:
    weights = [
        torch.cat([p.flatten() for p in stepped(4, seed)[0].parameters()]) for seed in (3, 3, 4)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_secret_is_drawn_once_and_comes_back_with_the_history() -> None:
    one, other = make_privacy(), make_privacy()
    assert one.secret != other.secret
    one.history = [(3.0, 1 / 9, 5)]
    other.load_state_dict(one.state_dict())
    assert (other.secret, other.history) == (one.secret, one.history)
    assert other.sampler.take(0, 3, 32)[0].tolist() == one.sampler.take(0, 3, 32)[0].tolist()


def test_poisson_batches_have_any_size_and_follow_from_epoch_and_step() -> None:
    sampler = PoissonSampler(300, steps=100, seed=1)
    drawn = [sampler.take(epoch, step, 3)[0] for epoch in range(5) for step in range(100)]
    sizes = torch.tensor([float(len(one)) for one in drawn])
    assert sizes.min() == 0 and sizes.max() > 6
    assert sizes.mean().item() == pytest.approx(3, rel=0.1)
    assert sizes.var().item() == pytest.approx(3, rel=0.25)
    assert sampler.take(2, 7, 3)[0].tolist() == drawn[207].tolist()
    assert sampler.take(0, 7, 3)[1] == 8
    assert (len(sampler), sampler.steps(3)) == (100, 100)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0"])
@pytest.mark.slow
def test_published_networks_compute_the_same_and_give_gradients_by_sample(name: str) -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    plain = replace_batch_norm(models.get_model(name, num_classes=2)).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = plain(images)
    assert torch.allclose(without_in_place(copy.deepcopy(plain))(images), expected, atol=1e-5)
    network = make_privacy().prepare(copy.deepcopy(plain))
    assert network.state_dict().keys() == plain.state_dict().keys()
    nn.functional.cross_entropy(network.train()(images), torch.tensor([0, 1])).backward()
    assert all(p.grad_sample.shape == (2, *p.shape) for p in network.parameters())


def test_layer_that_mixes_samples_is_refused() -> None:
    mixing = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4))
    with pytest.raises(ConfigurationError, match="model: does not work with trainer_type dp"):
        make_privacy().prepare(mixing)


def test_group_norm_takes_the_place_of_batch_norm() -> None:
    network = nn.Sequential(nn.Conv2d(3, 48, 1), nn.BatchNorm2d(48), nn.BatchNorm2d(7))
    network[1].weight.data.fill_(2.0)
    changed = replace_batch_norm(network)
    assert [(n.num_groups, n.num_channels) for n in list(changed)[1:]] == [(24, 48), (7, 7)]
    assert changed[1].weight.unique().tolist() == [2.0]
