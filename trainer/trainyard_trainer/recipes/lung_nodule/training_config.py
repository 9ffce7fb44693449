"""How to train a detector: losses, mining, stages and schedule. No torch here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from trainyard_trainer.config import OptimizerConfig, ScheduleConfig, Section, TrainingConfig
from trainyard_trainer.recipes.lung_nodule.values import Millimetres, Share, Size, Weight


class DetectionLossConfig(Section):
    """Of the heatmap."""

    type: Literal["focal", "dice"] = "focal"
    """Which loss."""
    alpha: Share = 0.25
    """For focal: weight of positives; negatives have the rest."""
    gamma: Weight = 2.0
    """For focal: how much easy voxels count less."""
    smooth: Weight = 1.0
    """For dice: added to numerator and denominator."""
    squared_pred: bool = True
    """For dice: squares in the denominator."""


class RegressionLossConfig(Section):
    """Of centre and size."""

    type: Literal["smooth_l1"] = "smooth_l1"
    """Which loss."""
    beta: Millimetres = 1.0
    """Where it turns from a square to a line, in tens of millimetres."""


class TriageLossConfig(Section):
    """Of malignancy."""

    type: Literal["bce"] = "bce"
    """Which loss."""
    pos_weight: Millimetres = 3.0
    """How often a malignant nodule counts."""


class LossConfig(Section):
    """What is minimised."""

    type: Literal["multi_task", "focal", "dice"] = "multi_task"
    """multi_task: all three heads; focal and dice: the heatmap alone, with the keys below."""
    detection_weight: Weight = 1.0
    """Of the heatmap's loss."""
    regression_weight: Weight = 0.5
    """Of the loss of centre and size."""
    triage_weight: Weight = 0.3
    """Of the loss of malignancy."""
    detection_loss: DetectionLossConfig = DetectionLossConfig()
    """For multi_task."""
    regression_loss: RegressionLossConfig = RegressionLossConfig()
    """For multi_task."""
    triage_loss: TriageLossConfig = TriageLossConfig()
    """For multi_task; nodules without a label are left out."""
    alpha: Share = 0.25
    """For focal alone: weight of positives."""
    gamma: Weight = 2.0
    """For focal alone: how much easy voxels count less."""
    smooth: Weight = 1.0
    """For dice alone: added to numerator and denominator."""
    squared_pred: bool = True
    """For dice alone: squares in the denominator."""

    @property
    def has_heads(self) -> bool:
        """Whether centre, size and triage are learnt."""
        return self.type == "multi_task"

    @property
    def detection(self) -> DetectionLossConfig:
        """What applies to the heatmap."""
        if self.type == "multi_task":
            return self.detection_loss
        return DetectionLossConfig(
            type=self.type,
            alpha=self.alpha,
            gamma=self.gamma,
            smooth=self.smooth,
            squared_pred=self.squared_pred,
        )


class MiningConfig(Section):
    """Hard negative mining, patch by patch; for focal alone."""

    enabled: bool = False
    """Count all positive voxels, and of the others only the worst."""
    neg_pos_ratio: Millimetres = 3.0
    """Negatives for each positive."""
    batch_hard_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """At most this share of a patch's negatives."""


class PretrainedConfig(Section):
    """Weights to begin with."""

    checkpoint: Path
    """File with a state dict, such as a checkpoint's model.pt; relative to data.path where it is
    not found otherwise. Tensors are matched by name and shape."""
    freeze_encoder: bool = False
    """Leave the encoder as it is at first."""
    freeze_epochs: int = Field(default=10, ge=1)
    """For how long."""


class ProgressiveStage(Section):
    """Epochs with one patch size."""

    epochs: int = Field(ge=1)
    """How many."""
    patch_size: Size
    """Voxels, z, y, x."""
    batch_size: int | None = Field(default=None, ge=1)
    """In place of training.batch_size."""


class ProgressiveConfig(Section):
    """Patches that grow."""

    enabled: bool = True
    """false: training.epochs with data.patch_size."""
    stages: tuple[ProgressiveStage, ...] = (
        ProgressiveStage(epochs=30, patch_size=(64, 64, 64), batch_size=8),
        ProgressiveStage(epochs=40, patch_size=(96, 96, 96), batch_size=4),
        ProgressiveStage(epochs=30, patch_size=(128, 128, 128), batch_size=2),
    )
    """In this order; their epochs replace training.epochs."""


class CurriculumStage(Section):
    """Epochs with nodules from some size on."""

    epochs: int = Field(ge=1)
    """How many."""
    min_diameter: Weight
    """Smaller nodules are neither looked for nor wrong to find, in mm; 0: all count."""


class CurriculumConfig(Section):
    """Large nodules first."""

    enabled: bool = True
    """false: all nodules from the beginning."""
    strategy: Literal["size_based"] = "size_based"
    """What makes a nodule hard."""
    stages: tuple[CurriculumStage, ...] = (
        CurriculumStage(epochs=20, min_diameter=10),
        CurriculumStage(epochs=30, min_diameter=5),
        CurriculumStage(epochs=50, min_diameter=0),
    )
    """In this order; their epochs replace training.epochs."""


class NoduleScheduleConfig(ScheduleConfig):
    """How the learning rate moves over the whole run, stages or not."""

    interval: Literal["step", "epoch"] = "epoch"
    """Whether the rate changes at every optimizer step or once an epoch."""
    cosine_epochs: int | None = Field(default=None, ge=1)
    """For cosine: epochs until min_lr, warm-up included; null: the run's."""


class NoduleTrainingConfig(TrainingConfig):
    """How to train a detector."""

    epochs: int = Field(default=100, ge=1)
    """Passes over the training patches."""
    batch_size: int = Field(default=2, ge=1)
    """Patches that one rank holds at a time; times accumulation_steps, those of one optimizer step
    over all ranks."""
    accumulation_steps: int = Field(default=1, ge=1)
    """Batches of one optimizer step."""
    evaluation_batch_size: int | None = Field(default=1, ge=1)
    """Whole scans that one rank holds at a time in evaluation."""
    optimizer: OptimizerConfig = OptimizerConfig(weight_decay=1e-4)
    """Which optimizer."""
    schedule: NoduleScheduleConfig = NoduleScheduleConfig()
    """How the learning rate moves."""
    log_grad_norm: bool = True
    """Record the norm of the gradients also where it is not clipped."""
    log_every_steps: int = Field(default=10, ge=1)
    """Optimizer steps between two readings of the training metrics."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    hard_negative_mining: MiningConfig = MiningConfig()
    """Which voxels count."""
    pretrained: PretrainedConfig | None = None
    """Weights to begin with; null: from scratch."""
    progressive: ProgressiveConfig | None = None
    """Patches that grow; null: one size."""
    curriculum: CurriculumConfig | None = None
    """Large nodules first; null: all from the beginning."""
