"""What can be told about differential privacy, and about which trainer to use. No torch here."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from trainyard_trainer.aliases import Alias, choice
from trainyard_trainer.config import RecipeConfig, Section, TrainingConfig

TRAINER_ALIASES: tuple[Alias, ...] = (
    choice(
        "training.amp_dtype",
        {"float16": {"training.precision": "fp16"}, "bfloat16": {"training.precision": "bf16"}},
    ),
)
TRAINER_GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "training.trainer_type": {"mixed_precision": {"training.precision": "fp16"}}
}
"""For recipes that have a PrivateTrainingConfig."""


class PrivacyConfig(Section):
    """DP-SGD (Abadi et al. 2016, arxiv.org/abs/1607.00133): each sample's gradient is clipped,
    noise is added to their sum, and samples come by Poisson sampling."""

    noise_multiplier: float | None = Field(default=None, gt=0)
    """Standard deviation of the noise over max_grad_norm. Unset: what just keeps to the budget."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """To which norm each sample's gradient is clipped."""
    target_epsilon: float = Field(default=3.0, gt=0)
    """The privacy budget that a run may spend; smaller is more private."""
    target_delta: float = Field(default=1e-5, gt=0, lt=1)
    """Probability with which the promise may fail; less than one over the number of samples."""
    when_spent: Literal["refuse", "stop"] = "refuse"
    """If noise_multiplier spends more than the budget in the run's epochs: refuse to start and name
    the noise that would do, or stop after the last epoch that the budget allows."""
    noise_seed: int | None = Field(default=None, ge=0)
    """Only to compare runs: who knows it can take the noise away again. Unset: drawn by the
    operating system, and kept in the checkpoints so that a resume goes on to the bit."""


class PrivateTrainingConfig(TrainingConfig):
    """How to train, privately or not."""

    trainer_type: Literal["standard", "mixed_precision", "accelerate", "dp"] = "standard"
    """mixed_precision: 16 bits, see precision. accelerate: like standard, for ranks are started and
    averaged over here in any case. dp: with differential privacy, see dp."""
    dp: PrivacyConfig = PrivacyConfig()
    """For trainer_type dp."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.trainer_type == "mixed_precision" and self.precision == "fp32":
            raise ValueError("trainer_type mixed_precision needs precision fp16 or bf16, not fp32")
        if self.trainer_type == "dp":
            for name, value in (
                ("clip_grad_norm", self.clip_grad_norm),
                ("ema_decay", self.ema_decay),
                ("compile", self.compile or None),
                ("precision fp16", self.precision == "fp16" or None),
            ):
                if value is not None:
                    raise ValueError(f"trainer_type dp excludes {name}; leave it out")
        return self


class PrivateConfig(RecipeConfig):
    """Of a recipe that can be trained privately."""

    training: PrivateTrainingConfig = PrivateTrainingConfig()
    """How to train."""
