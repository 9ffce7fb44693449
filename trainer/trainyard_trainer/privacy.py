"""Training with differential privacy: gradients per sample by Opacus, clipping, noise, accounting.

    privacy = Privacy(config, site, samples=265, batch_size=32, epochs=50)   # or refuses
    network = privacy.prepare(network)              # group norm, and gradients by sample
    sampler = privacy.sampler                       # Poisson: batches of any size, also of none
    privacy.attach(optimizer)                       # clips, adds up over ranks, adds noise

Noise and sampling follow from a secret and the step, so that a resume repeats them to the bit and
all ranks add the same noise. The secret and the accountant's history are part of the checkpoint.
"""

import functools
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.group_norm import replace_batch_norm
from trainyard_trainer.privacy_config import PrivacyConfig
from trainyard_trainer.recipe import Site
from trainyard_trainer.sampler import mix

_SAMPLING, _NOISE = 1, 2
_WHERE = "spec.config.training.dp"


class Privacy:
    """Of one run on one rank."""

    def __init__(
        self, config: PrivacyConfig, site: Site, *, samples: int, batch_size: int, epochs: int
    ) -> None:
        """Raises ConfigurationError where the run would spend more than its budget."""
        self.config, self._site = config, site
        self.steps_per_epoch = math.ceil(samples / batch_size)
        self.sample_rate = 1 / self.steps_per_epoch
        """Probability of each sample to be in a batch; as Opacus takes it."""
        self._expected = samples * self.sample_rate
        self._samples = samples
        self.noise_multiplier, self.epochs = self._plan(epochs)
        self.history: list[tuple[float, float, int]] = []
        """The accountant's: noise multiplier, sample rate, steps."""
        self._secret: int | None = None
        self._hooks: Any = None

    def _plan(self, epochs: int) -> tuple[float, int]:
        """The noise, and the epochs that it can pay for."""
        config, steps = self.config, epochs * self.steps_per_epoch
        if config.noise_multiplier is None:
            return self._enough(steps), epochs
        spent = self._spends(config.noise_multiplier, steps)
        if spent <= config.target_epsilon:
            return config.noise_multiplier, epochs
        paid = self._paid_epochs(epochs) if config.when_spent == "stop" else 0
        if paid:
            return config.noise_multiplier, paid
        raise ConfigurationError(
            f"{_WHERE}.noise_multiplier: {config.noise_multiplier:g} spends an epsilon of "
            f"{spent:.1f} in {epochs} epochs of {self._samples} samples, more than "
            f"target_epsilon {config.target_epsilon:g}; write noise_multiplier: "
            f"{self._enough(steps):.3f}, leave it out to have it computed, or train for fewer "
            "epochs."
        )

    def _enough(self, steps: int) -> float:
        """The noise that just keeps to the budget, rounded up to three digits."""
        low, high = 0.0, 1.0
        while self._spends(high, steps) > self.config.target_epsilon:
            low, high = high, 2 * high
            if high > 1e6:
                raise ConfigurationError(
                    f"{_WHERE}.target_epsilon: {self.config.target_epsilon:g} is out of reach with "
                    f"target_delta {self.config.target_delta:g}; write more of either."
                )
        while high - low > 1e-4:
            middle = (low + high) / 2
            is_enough = self._spends(middle, steps) <= self.config.target_epsilon
            low, high = (low, middle) if is_enough else (middle, high)
        return math.ceil(high * 1000) / 1000

    def _paid_epochs(self, epochs: int) -> int:
        noise = self.config.noise_multiplier or 0.0
        low, high = 0, epochs
        while low < high:
            middle = (low + high + 1) // 2
            is_paid = self._spends(noise, middle * self.steps_per_epoch) <= (
                self.config.target_epsilon
            )
            low, high = (middle, high) if is_paid else (low, middle - 1)
        return low

    def _spends(self, noise: float, steps: int) -> float:
        if noise <= 0:
            return math.inf
        return epsilon([(noise, self.sample_rate, steps)], self.config.target_delta)

    @property
    def spent(self) -> float:
        """Epsilon so far."""
        return epsilon(self.history, self.config.target_delta) if self.history else 0.0

    def prepare(self, network: nn.Module) -> nn.Module:
        """The network with group normalisation, computing each sample's gradients.

        Raises ConfigurationError for a layer whose samples cannot be told apart.
        """
        from opacus.grad_sample import GradSampleHooks
        from opacus.validators import ModuleValidator

        network = without_in_place(replace_batch_norm(network))
        if errors := ModuleValidator.validate(network.train(), strict=False):
            raise ConfigurationError(f"model: does not work with trainer_type dp: {errors[0]}")
        self._hooks = GradSampleHooks(network, loss_reduction="mean")
        return network

    @property
    def sampler(self) -> "PoissonSampler":
        """Whose draws follow from the secret."""
        return PoissonSampler(self._samples, self.steps_per_epoch, mix(self.secret, _SAMPLING))

    @property
    def secret(self) -> int:
        """Equal on all ranks, unknown to the world."""
        if self._secret is None:
            told = self.config.noise_seed
            self._secret = self._shared(secrets.randbits(62)) if told is None else told
        return self._secret

    def attach(self, optimizer: Optimizer) -> None:
        """Before each step, put in place of the gradients what privacy allows to be known."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.register_step_pre_hook(lambda *_: self._privatize(parameters))

    def _privatize(self, parameters: Sequence[nn.Parameter]) -> None:
        sums = clipped_sums(parameters, self.config.max_grad_norm)
        if dist.is_initialized():
            flat = torch.cat([one.flatten() for one in sums])
            dist.all_reduce(flat)
            sums = [
                part.view_as(one)
                for part, one in zip(flat.split([s.numel() for s in sums]), sums, strict=True)
            ]
        generator = torch.Generator().manual_seed(mix(self.secret, _NOISE, self._steps))
        deviation = self.noise_multiplier * self.config.max_grad_norm
        for parameter, total in zip(parameters, sums, strict=True):
            noise = torch.normal(0.0, deviation, total.shape, generator=generator)
            parameter.grad = (total + noise.to(total)) / self._expected
        self._account()

    @property
    def _steps(self) -> int:
        return sum(steps for _, _, steps in self.history)

    def _account(self) -> None:
        mine = (self.noise_multiplier, self.sample_rate)
        if self.history and self.history[-1][:2] == mine:
            self.history[-1] = (*mine, self.history[-1][2] + 1)
        else:
            self.history.append((*mine, 1))

    def _shared(self, number: int) -> int:
        """Rank 0's for all."""
        if not dist.is_initialized():
            return number
        found = torch.tensor([number], dtype=torch.int64, device=self._site.device)
        dist.broadcast(found, 0)
        return int(found.item())

    def notes(self) -> dict[str, str]:
        """For the run's report."""
        config = self.config
        text = (
            f"epsilon {self.spent:.3f} of {config.target_epsilon:g} spent, delta "
            f"{config.target_delta:g}; noise multiplier {self.noise_multiplier:g}, gradients "
            f"clipped to {config.max_grad_norm:g}, {self._steps} steps at rate "
            f"{self.sample_rate:.4g} of {self._samples} samples"
        )
        if config.noise_seed is not None:
            text += "; the noise is from a known seed, so that nothing is private"
        return {"differential privacy": text}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"secret": self._secret, "history": [list(one) for one in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self._secret = state["secret"]
        self.history = [(noise, rate, steps) for noise, rate, steps in state["history"]]


class PoissonSampler:
    """Each sample is in each batch with the same probability, whatever else is in it.

    The cursor counts steps. Batches may be empty.
    """

    def __init__(self, size: int, steps: int, seed: int) -> None:
        self._size, self._steps, self._seed = size, steps, seed

    def __len__(self) -> int:
        """Steps in an epoch."""
        return self._steps

    def steps(self, batch_size: int) -> int:
        """The same, whatever batch_size."""
        return self._steps

    def take(self, epoch: int, cursor: int, batch_size: int) -> tuple[Tensor, int]:
        """The samples of a step, and the next one's number."""
        generator = torch.Generator().manual_seed(mix(self._seed, epoch, cursor))
        drawn = torch.rand(self._size, generator=generator, dtype=torch.float64)
        return (drawn < 1 / self._steps).nonzero().flatten(), cursor + 1


def epsilon(history: Sequence[tuple[float, float, int]], delta: float) -> float:
    """What a history has spent, by Renyi accounting (Mironov 2017, arxiv.org/abs/1702.07476).

    history: noise multiplier, sample rate and number of steps.
    """
    from opacus.accountants import RDPAccountant

    return _spent(RDPAccountant, tuple(history), delta)


@functools.lru_cache(512)
def _spent(accountant: Any, history: tuple[tuple[float, float, int], ...], delta: float) -> float:
    found = accountant()
    found.history = list(history)
    return float(found.get_epsilon(delta))


def clipped_sums(parameters: Sequence[nn.Parameter], max_norm: float) -> list[Tensor]:
    """Sums over this rank's samples of their gradients, each scaled to a norm of at most max_norm.

    Takes the gradients from `grad_sample`, (B, ...) or a list of such by micro-batches; zeros where
    there are no samples. A sample's norm is that over all parameters.
    """
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    pieces = [_pieces(parameter) for parameter in parameters]
    for number in range(max(len(one) for one in pieces)):
        gradients = [one[number] if one else None for one in pieces]
        squares = [g.flatten(1).square().sum(1) for g in gradients if g is not None]
        norms = torch.stack(squares).sum(0).sqrt()  # (B,)
        factors = (max_norm / norms.clamp(min=1e-12)).clamp(max=1.0)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total.add_(torch.einsum("b,b...->...", factors, gradient))
    for parameter in parameters:
        parameter.grad_sample = None  # type: ignore[attr-defined]
    return sums


def _pieces(parameter: nn.Parameter) -> list[Tensor]:
    found = getattr(parameter, "grad_sample", None)
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def without_in_place(network: nn.Module) -> nn.Module:
    """The same network without in-place arithmetic, which hooks on its layers do not survive."""
    for module in network.modules():
        changed: Any = module
        if getattr(module, "inplace", False):
            changed.inplace = False
        if (forward := _FORWARDS.get(type(module).__name__)) is not None:
            changed.forward = functools.partial(forward, module)
    return network


def _basic_block(block: Any, features: Tensor) -> Tensor:
    found = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(features)))))
    identity = features if block.downsample is None else block.downsample(features)
    result: Tensor = block.relu(found + identity)
    return result


def _bottleneck(block: Any, features: Tensor) -> Tensor:
    found = block.relu(block.bn1(block.conv1(features)))
    found = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(found)))))
    identity = features if block.downsample is None else block.downsample(features)
    result: Tensor = block.relu(found + identity)
    return result


def _mbconv(block: Any, features: Tensor) -> Tensor:
    found: Tensor = block.block(features)
    return features + block.stochastic_depth(found) if block.use_res_connect else found


_FORWARDS: dict[str, Any] = {
    "BasicBlock": _basic_block,
    "Bottleneck": _bottleneck,
    "MBConv": _mbconv,
}
"""Blocks of torchvision that add in place, by their class, and how they add here."""
