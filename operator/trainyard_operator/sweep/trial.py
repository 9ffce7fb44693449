"""A trial as searches, early stopping and reports read it, and one that may begin."""

from dataclasses import dataclass, field
from typing import Any, Literal

TrialState = Literal["Running", "Succeeded", "Failed", "Stopped"]
"""Running: also one that waits for nodes. Stopped: by early stopping, with its checkpoint kept."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial whose TrainingJob exists."""

    number: int
    """From 0, without gaps in what a search proposes; part of the TrainingJob's name."""
    name: str = ""
    """What the report calls it; see `Proposal.name`."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Dotted key of the configuration to its value, without the fold's."""
    fold: int | None = None
    state: TrialState = "Running"
    value: float | None = None
    """Objective: of the best checkpoint where it was chosen by this metric, else the newest;
    None before the first report, and never a number that is not finite."""
    curve: tuple[tuple[int, float], ...] = ()
    """(optimizer step, objective) at each evaluation, steps ascending."""
    steps: int | None = None
    """Of the whole trial, as far as can be foreseen."""
    pause_at: int | None = None
    """It rests at its first evaluation at or after this step; None: it goes on by itself."""
    is_paused: bool = False
    """Whether it rests there and has yet to be judged; its state is then Running."""

    @property
    def is_cleared(self) -> bool:
        """Whether it goes on from its newest evaluation, where it was judged."""
        return self.pause_at is not None and bool(self.curve) and self.curve[-1][0] < self.pause_at


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial that may begin."""

    number: int
    """Of no trial that is known."""
    name: str = ""
    """The variant, the fold, or both; empty where its job's name is all that it is called."""
    overrides: dict[str, Any]
    """Dotted key of the configuration to its value, without the fold's."""
    fold: int | None = None
    """`SweepSpec.fold_parameter` is set to it."""
