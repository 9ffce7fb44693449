"""The guide's tips, watched while training: what goes wrong in a GAN, said once in words."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor

LOWEST_DISCRIMINATOR_LOSS = 0.05
"""Mean over an epoch and over scales below which the discriminator has won."""
SWINGS = 5
"""Changes of direction in a row, from epoch to epoch, that count as oscillation."""
SMALLEST_SWING = 0.02
"""Relative change of an epoch's mean that counts."""


class Watch:
    """Collects losses on their device, and judges them once an epoch."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._steps: dict[str, int] = {}
        self._physics: list[float] = []
        self.warnings: list[str] = []
        """Everything said so far."""

    def add(self, name: str, loss: Tensor) -> None:
        """A step's loss; nothing is read from the device."""
        value = loss.detach().double()
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps[name] = self._steps.get(name, 0) + 1

    def end_epoch(self, epoch: int, scales: int) -> list[str]:
        """New warnings. scales: how many verdicts the discriminator's loss adds up."""
        means = {name: float(total) / self._steps[name] for name, total in self._sums.items()}
        self._sums, self._steps = {}, {}
        found = []
        if means.get("discriminator", 1.0) / max(scales, 1) < LOWEST_DISCRIMINATOR_LOSS:
            found.append(
                f"Epoch {epoch}: the discriminator's loss fell to {means['discriminator']:.2g}, so "
                "that the generator learns nothing from it; lower "
                "training.loss_weights.adversarial."
            )
        if "physics" in means:
            self._physics.append(means["physics"])
            if is_oscillating(self._physics):
                found.append(
                    f"Epoch {epoch}: the physics loss has swung up and down for {SWINGS} epochs; "
                    "lower training.loss_weights.physics or training.learning_rate."
                )
                self._physics = self._physics[-1:]
        self.warnings += found
        return found

    def state_dict(self) -> dict[str, Any]:
        """Numbers alone, exact."""
        return {
            "sums": {name: float(total) for name, total in self._sums.items()},
            "steps": dict(self._steps),
            "physics": list(self._physics),
            "warnings": list(self.warnings),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self._sums, self._steps = dict(state["sums"]), dict(state["steps"])
        self._physics, self.warnings = list(state["physics"]), list(state["warnings"])


def is_oscillating(values: list[float]) -> bool:
    """Whether the last changes alternate in sign, each of them large enough to count."""
    last = values[-(SWINGS + 2) :]
    if len(last) < SWINGS + 2:
        return False
    changes = [after - before for before, after in pairwise(last)]
    large = all(
        abs(change) > SMALLEST_SWING * abs(before)
        for change, before in zip(changes, last, strict=False)
    )
    return large and all(a * b < 0 for a, b in pairwise(changes))
