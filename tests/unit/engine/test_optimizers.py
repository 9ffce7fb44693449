"""Which kernel updates the weights, and what a checkpoint may not change about it."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from trainyard_trainer.config import OptimizerConfig
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.optimizers import build_optimizer, load_optimizer


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    network(torch.ones(2, 4)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_fused_update_is_the_same_to_rounding(name: str) -> None:
    weights = []
    for fused in (None, False):
        network = make_network()
        config = OptimizerConfig.model_validate({"name": name, "fused": fused})
        optimizer = build_optimizer(network.parameters(), config, 0.1)
        assert optimizer.param_groups[0]["fused"] is (fused is None)
        step(network, optimizer)
        weights.append(network.weight)
    torch.testing.assert_close(*weights)


def test_groups_keep_their_own_rates_even_from_iterators() -> None:
    network = make_network()

    def bias() -> Iterator[nn.Parameter]:
        yield network.bias  # type: ignore[misc]

    groups = [{"params": network.weight}, {"params": bias(), "lr": 0.5}]
    optimizer = build_optimizer(groups, OptimizerConfig(), 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    assert optimizer.param_groups[1]["params"] == [network.bias]


def test_complex_parameters_are_not_fused() -> None:
    parameter = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    optimizer = build_optimizer([parameter], OptimizerConfig(), 0.1)
    assert not optimizer.param_groups[0]["fused"]
    with pytest.raises(ConfigurationError) as caught:
        build_optimizer([parameter], OptimizerConfig(fused=True), 0.1)
    assert str(caught.value) == (
        "spec.config.training.optimizer.fused: a parameter is complex or on a device without "
        "fused optimizers; write 'false', or leave it out."
    )


@pytest.mark.parametrize("fused", [True, False])
def test_checkpoint_brings_moments_and_leaves_rates_and_kernels(fused: bool) -> None:
    network = make_network()
    teacher = build_optimizer(network.parameters(), OptimizerConfig(fused=not fused), 0.1)
    step(network, teacher)
    pupil = build_optimizer(network.parameters(), OptimizerConfig(fused=fused), 0.2)
    pupil.param_groups[0]["initial_lr"] = 0.2
    load_optimizer(pupil, teacher.state_dict())
    assert pupil.param_groups[0]["initial_lr"] == 0.2
    assert pupil.param_groups[0]["fused"] is fused
    moments = pupil.state[network.weight]["exp_avg"]
    assert torch.equal(moments, teacher.state[network.weight]["exp_avg"])
    step(network, pupil)
    assert pupil.state[network.weight]["step"] == 2
